"""``forge3d demo``: stream a real elevation model through a backend, check it, and draw it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import attrs
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from forge3d_core.cli.output import results, write_json
from forge3d_core.demo import HILLSHADE, StreamReport, load_terrain, shade_terrain
from forge3d_core.demo.hillshade import TOLERANCE
from forge3d_core.errors import MissingDependency
from forge3d_core.select import open_device
from forge3d_core.units import format_bytes, parse_bytes

MORE = {
    "host": "no GPU was used; for Vulkan, Metal or Direct3D: pip install forge3d-wgpu (on Linux without a "
    "GPU also a software driver: apt-get install mesa-vulkan-drivers); for NVIDIA: pip install forge3d-cuda",
}


def demo(
    backend: Annotated[
        str | None, typer.Option(help="Backend, as 'name' or 'name:selector'; default: what explain says.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the picture and the report.")] = Path("demo-out"),
    size: Annotated[str, typer.Option(help="How much elevation data to stream.")] = "64 MiB",
    tile: Annotated[int, typer.Option(help="Samples along a tile's side, a multiple of 4.")] = 512,
    ring_count: Annotated[int, typer.Option(help="Blocks in the staging ring, 1 to 8.")] = 3,
    buffer_size: Annotated[str, typer.Option(help="Bytes in each block.")] = "4 MiB",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Stream a real elevation model through ring, hillshade kernel and readback pool, and check it.

    Every tile is compared with numpy. Exit status 1 when one is wrong.
    """
    screen = Console(stderr=True)
    terrain = load_terrain().grown_to(parse_bytes(size))
    bar = Progress(
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=screen,
    )
    with open_device(backend) as device, bar:
        phases: dict[str, TaskID] = {}

        def progress(phase: str, done: int, total: int) -> None:
            if phase not in phases:
                phases[phase] = bar.add_task(phase, total=total)
            bar.update(phases[phase], completed=done)

        picture, report = shade_terrain(
            device,
            terrain,
            side=tile,
            ring_count=ring_count,
            buffer_size=buffer_size,
            tolerance=TOLERANCE,
            progress=progress,
        )
    path = out / f"hillshade-{report.backend}.png"
    save_png(picture, path)
    summary = {
        **attrs.asdict(report),
        "throughput": report.throughput,
        "correct": report.correct,
        "picture": str(path),
    }
    path.with_suffix(".json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    with results() as console:
        if as_json:
            write_json(console, summary)
        else:
            _show(console, report, path)
    if not report.correct:
        raise typer.Exit(1)


def save_png(picture: NDArray[np.uint8], path: Path) -> None:
    """Write a grey picture, (height, width). Raises :class:`MissingDependency` without Pillow."""
    try:
        from PIL import Image
    except ImportError as error:
        fix = 'pip install "forge3d-core[demo]"'
        raise MissingDependency(f"writing a PNG takes Pillow ({error}); {fix}", fix=fix) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def _show(console: Console, report: StreamReport, path: Path) -> None:
    table = Table.grid(padding=(0, 2))
    verdict = (
        f"[green]all {report.tiles} tiles agree with numpy[/] (largest difference "
        f"{report.largest_difference} of 255 grey levels, {TOLERANCE} allowed)"
        if report.correct
        else f"[red]{report.wrong_tiles} of {report.tiles} tiles are wrong[/] (largest difference "
        f"{report.largest_difference} grey levels, {TOLERANCE} allowed)"
    )
    table.add_row("device", f"[bold]{report.backend}[/] {report.device}")
    table.add_row("kernel", f"{HILLSHADE.name}, {verdict}")
    table.add_row(
        "streamed",
        f"{format_bytes(report.bytes_up)} up, {format_bytes(report.bytes_down)} down in "
        f"{report.seconds:.3f} s: [bold]{report.throughput / 1e6:.0f} MB/s[/]",
    )
    table.add_row(
        "ring",
        f"{report.ring_count} x {format_bytes(report.buffer_size)}, {report.buffer_stalls} stalls, at most "
        f"{format_bytes(report.peak_bytes_in_flight)} in flight",
    )
    table.add_row("readback", f"{report.readback_waits} reads had to wait for a block")
    table.add_row(
        "budget",
        f"{format_bytes(report.peak_host_visible_bytes)} of {format_bytes(report.limit_bytes)} host-visible",
    )
    table.add_row("picture", str(path))
    console.print(table)
    if report.backend in MORE:
        console.print(f"[dim]{MORE[report.backend]}[/]")
