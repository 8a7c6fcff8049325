"""Processes, their devices, and what those hold: bars on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs
from rich.console import Console, Group, RenderableType
from rich.markup import render
from rich.progress_bar import ProgressBar
from rich.table import Table

from forge3d_core.cli.describe import escape
from forge3d_core.presentation import counted
from forge3d_core.status.figures import DeviceStatus, ProcessStatus
from forge3d_core.units import format_bytes

WIDTH = 30
HIGH, CRITICAL = 0.75, 0.90
"""From here on a bar is yellow, and red: the marks of the memory management guide."""


@attrs.frozen
class Row:
    """A figure: its name, how much of what it may be, and in words. ``share`` is None for no bar."""

    name: str
    share: float | None
    text: str


def heading(status: ProcessStatus) -> str:
    state = ", ended" if status.ended else ""
    used = f"{_of(status.host_visible_bytes, status.limit_bytes)} host-visible"
    return (
        f"[bold]{escape(status.program) or 'python'}[/] (process {status.pid}{state}): "
        f"{used}, at most {format_bytes(status.peak_host_visible_bytes)}"
    )


def device_heading(device: DeviceStatus) -> str:
    state = "" if device.open else " [bright_black]closed[/]"
    refused = f", [yellow]{counted(device.refusals, 'refusal')}[/]" if device.refusals else ""
    return f"[bold green]{escape(device.address)}[/] {escape(device.name)}{state}{refused}"


def rows(device: DeviceStatus) -> Iterator[Row]:
    """Yield the figures of a device, in order."""
    yield Row(
        "host-visible",
        _share(device.host_visible_bytes, device.limit_bytes),
        f"{_of(device.host_visible_bytes, device.limit_bytes)}, at most "
        f"{format_bytes(device.peak_host_visible_bytes)}",
    )
    live = f"{counted(device.buffer_count, 'buffer')}, {counted(device.texture_count, 'texture')}"
    local = format_bytes(device.device_local_bytes)
    if device.memory_bytes:
        local = _of(device.device_local_bytes, device.memory_bytes)
    yield Row("device-local", _share(device.device_local_bytes, device.memory_bytes), f"{local}, {live}")
    for ring in device.rings:
        size = ring.ring_count * ring.buffer_size
        yield Row(
            f"ring {escape(ring.lane)}",
            _share(ring.bytes_in_flight, size),
            f"{_of(ring.bytes_in_flight, size)} in flight, {format_bytes(ring.bytes_staged)} staged, "
            f"{counted(ring.buffer_stalls, 'stall')}",
        )
    for pool in device.pools:
        yield Row(
            f"pool {escape(pool.lane)}",
            _share(pool.pending_operations, pool.blocks),
            f"{pool.pending_operations} pending in {counted(pool.blocks, 'block')} of "
            f"{format_bytes(pool.block_bytes)}, {format_bytes(pool.bytes_read)} read, "
            f"{counted(pool.waits, 'wait')}",
        )
    for lane in device.lanes:
        if lane.submitted:
            flying = lane.submitted - lane.completed
            yield Row(f"lane {escape(lane.name)}", None, f"{flying} of {lane.submitted} in flight")


def screen(statuses: Iterable[ProcessStatus]) -> RenderableType:
    """Return what a terminal shows: a bar for each figure."""
    parts: list[RenderableType] = []
    for status in statuses:
        parts.append(render(heading(status)))
        for device in status.devices:
            parts += [render(f"  {device_heading(device)}"), _bars(device)]
    return Group(*parts)


def write(console: Console, statuses: Iterable[ProcessStatus]) -> None:
    """Print the figures once, a line each where there is no terminal."""
    statuses = list(statuses)
    if console.is_terminal:
        console.print(screen(statuses))
        return
    for status in statuses:
        console.print(heading(status), soft_wrap=True)
        for device in status.devices:
            console.print(f"  {device_heading(device)}", soft_wrap=True)
            for row in rows(device):
                console.print(f"    {row.name}: {row.text}", soft_wrap=True)


def _bars(device: DeviceStatus) -> Table:
    grid = Table.grid(padding=(0, 1))
    for row in rows(device):
        bar: RenderableType = ""
        if row.share is not None:
            style = "red" if row.share > CRITICAL else "yellow" if row.share > HIGH else "green"
            bar = ProgressBar(
                total=1.0, completed=row.share, width=WIDTH, complete_style=style, finished_style=style
            )
        grid.add_row(f"    {row.name}", bar, row.text)
    return grid


def _share(part: int, whole: int | None) -> float | None:
    return min(1.0, part / whole) if whole else None


def _of(part: int, whole: int) -> str:
    return f"{format_bytes(part)} of {format_bytes(whole)}"
