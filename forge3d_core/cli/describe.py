"""Plugins and devices as rows for people and as data for machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from forge3d_core.plugins import State, Status
from forge3d_core.protocols import DeviceInfo, Limits
from forge3d_core.units import format_bytes

COLOURS = {
    State.AVAILABLE: "green",
    State.UNAVAILABLE: "yellow",
    State.MISSING_DEPENDENCY: "yellow",
    State.DENIED: "blue",
    State.UNKNOWN: "bright_black",
    State.INCOMPATIBLE: "red",
    State.FAILED: "red",
}


def states(statuses: Iterable[Status], unasked: Iterable[str] = ()) -> Table:
    """Return a table of plugins, their states and the distributions they come from."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    table.add_column("Backend", no_wrap=True)
    table.add_column("State", no_wrap=True)
    table.add_column("Distribution", overflow="fold")
    for status in statuses:
        colour = COLOURS[status.state]
        origins = "\n".join(map(str, status.candidates)) or "not installed"
        table.add_row(escape(status.name), f"[{colour}]{status.state.value}[/]", escape(origins))
    for name in unasked:
        table.add_row(escape(name), "[bright_black]not asked[/]", "")
    return table


def complaints(console: Console, statuses: Iterable[Status]) -> None:
    """Print why each plugin that cannot be used cannot, and what would mend it."""
    for status in statuses:
        if status.reason:
            console.print(f"\n[bold]{escape(status.name)}[/]: {status.state.value}")
            console.print(Padding(escape(status.reason), (0, 0, 0, 2), expand=False))
            if status.fix:  # one line, however long: it is there to be copied
                console.print(f"  fix: [bold]{escape(status.fix)}[/]", soft_wrap=True)


def device(console: Console, name: str, info: DeviceInfo) -> None:
    """Print one device: how to open it, what it is, what it can do."""
    address = f"{name}:{info.selector}" if info.selector else name
    console.print(f"\n[bold]{escape(address)}[/]  {escape(info.name)}", soft_wrap=True)
    memory = f", {format_bytes(info.memory_bytes)}" if info.memory_bytes is not None else ""
    driver = f", {info.driver}" if info.driver else ""
    console.print(
        Padding(escape(f"{info.kind}, score {info.score}{memory}{driver}"), (0, 0, 0, 2), expand=False)
    )
    if info.caution:
        console.print(
            Padding(escape(f"only when named: {info.caution}"), (0, 0, 0, 2), expand=False), style="yellow"
        )
    for line in _limits(info.limits) if info.limits else ():
        console.print(Padding(escape(line), (0, 0, 0, 2), expand=False), style="bright_black")


def _limits(limits: Limits) -> Iterator[str]:
    yield (
        f"buffers to {format_bytes(limits.max_buffer_size)}, textures to {limits.max_texture_size} texels, "
        f"groups of {limits.max_group_threads} threads"
    )
    yield (
        f"alignment: copies {limits.copy_alignment} B, rows {limits.row_pitch_alignment} B, "
        f"slices {limits.staging_alignment} B"
    )
    languages, lanes = ", ".join(limits.languages), ", ".join(limits.lanes)
    queues = "" if limits.concurrent_lanes else " (one native queue)"
    yield f"kernels in {languages or 'no language'}; lanes {lanes}{queues}"


def status_data(status: Status) -> dict[str, Any]:
    """Return a status as JSON has it."""
    return {
        "name": status.name,
        "state": status.state.value,
        "distributions": [
            {"name": c.distribution, "version": c.version, "target": c.target} for c in status.candidates
        ],
        "reason": status.reason or None,
        "fix": status.fix,
        "devices": [device_data(info) for info in status.devices],
    }


def device_data(info: DeviceInfo) -> dict[str, Any]:
    """Return a device as JSON has it."""
    return attrs.asdict(info)
