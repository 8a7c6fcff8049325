"""Plugins and devices as rows for people and as data for machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import rich.markup
from rich.console import Console

from forge3d_core.cli.output import indented, table
from forge3d_core.plugins import State, Status
from forge3d_core.plugins.devices import device_data
from forge3d_core.printable import escaped
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


def escape(text: str) -> str:
    """Return text of foreign origin as markup that shows it: printable, on one line, no markup in it."""
    return rich.markup.escape(escaped(text))


def states(console: Console, statuses: Iterable[Status], unasked: Iterable[str] = ()) -> None:
    """Print plugins, their states and the distributions they come from."""
    rows = [
        (
            escape(status.name),
            f"[{COLOURS[status.state]}]{status.state.value}[/]",
            ", ".join(escape(str(c)) for c in status.candidates) or "not installed",
        )
        for status in statuses
    ]
    rows += [(escape(name), "[bright_black]not asked[/]", "") for name in unasked]
    table(console, rows, header=("Backend", "State", "Distribution"))


def complaints(console: Console, statuses: Iterable[Status]) -> None:
    """Print why each plugin that cannot be used cannot, what would mend it, and what hides or rivals it."""
    for status in statuses:
        if status.reason or status.notes:
            console.print(f"\n[bold]{escape(status.name)}[/]: {status.state.value}")
        if status.reason:
            indented(console, escape(status.reason))
        if status.fix:  # one line, however long: it is there to be copied
            console.print(f"  fix: [bold]{escape(status.fix)}[/]", soft_wrap=True)
        for note in status.notes:
            indented(console, f"note: {escape(note)}")


def device(console: Console, name: str, info: DeviceInfo) -> None:
    """Print one device: how to open it, what it is, what it can do."""
    address = f"{name}:{info.selector}" if info.selector else name
    console.print(f"\n[bold]{escape(address)}[/]  {escape(info.name)}", soft_wrap=True)
    memory = f", {format_bytes(info.memory_bytes)}" if info.memory_bytes is not None else ""
    driver = f", {info.driver}" if info.driver else ""
    indented(console, escape(f"{info.kind}, score {info.score}{memory}{driver}"))
    if info.caution:
        indented(console, escape(f"only when named: {info.caution}"), style="yellow")
    for line in _limits(info.limits) if info.limits else ():
        indented(console, escape(line), style="bright_black")


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
        "notes": list(status.notes),
        "devices": [device_data(info) for info in status.devices],
    }
