"""``forge3d demo``: stream a real elevation model through a backend, check it, and draw it."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

import attrs
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from forge3d_core.cli.describe import escape
from forge3d_core.cli.output import results, table, write_json
from forge3d_core.demo import HILLSHADE, StreamReport, load_terrain, shade_terrain
from forge3d_core.demo.hillshade import TOLERANCE
from forge3d_core.errors import MissingDependency
from forge3d_core.plugins.own import CORE, installing
from forge3d_core.selection.select import open_device
from forge3d_core.units import format_bytes, parse_bytes

MORE = {
    "host": "no GPU was used; for Vulkan, Metal or Direct3D: "
    f"{installing('forge3d-wgpu')} (on Linux without a GPU also a software driver: apt-get install "
    f"mesa-vulkan-drivers); for NVIDIA: {installing('forge3d-cuda')}",
}


def demo(
    backend: Annotated[
        str | None, typer.Option(help="Backend, as 'name' or 'name:selector'; default: what explain says.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the picture and the report.")] = Path("demo-out"),
    size: Annotated[str, typer.Option(help="How much elevation data to stream.")] = "64 MiB",
    tile: Annotated[
        int | None,
        typer.Option(help="Samples along a tile's side, a multiple of 4; default: bands of whole rows."),
    ] = None,
    ring_count: Annotated[int, typer.Option(help="Blocks in the staging ring, 1 to 8.")] = 3,
    buffer_size: Annotated[str, typer.Option(help="Bytes in each block.")] = "16 MiB",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Stream a real elevation model through ring, hillshade kernel and readback pool, and check it.

    Every tile is compared with numpy. Exits with 0 when all are right, with 1 when one is wrong, and with 2
    when it could not be done.
    """
    nbytes = parse_bytes(size)
    _can_write(out)
    screen = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=screen,
    )
    phases: dict[str, TaskID] = {}

    def progress(phase: str, done: int, total: int) -> None:
        if phase not in phases:
            phases[phase] = bar.add_task(phase, total=total)
        bar.update(phases[phase], completed=done)

    with bar:
        progress("preparing", 0, 2)
        if not screen.is_terminal:  # which would see the bar
            screen.print("preparing", highlight=False)
        terrain = load_terrain().grown_to(nbytes)
        progress("preparing", 1, 2)
        with open_device(backend) as device:
            progress("preparing", 2, 2)
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
        "link_throughput": report.link_throughput,
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


def _can_write(folder: Path) -> None:
    """Raise before the work what writing the results would raise after it."""
    _image()
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        pass


def _image() -> Any:
    """Return Pillow's module; raises :class:`MissingDependency` without it."""
    try:
        from PIL import Image
    except ImportError as error:
        fix = installing(CORE, "demo")
        raise MissingDependency(f"writing a PNG takes Pillow ({error}); try: {fix}", fix=fix) from None
    return Image


def save_png(picture: NDArray[np.uint8], path: Path) -> None:
    """Write a grey picture, (height, width). Raises :class:`MissingDependency` without Pillow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _image().fromarray(picture).save(path)


def _rate(bytes_a_second: float) -> str:
    if bytes_a_second < 1e10:
        return f"{bytes_a_second / 1e6:.0f} MB/s"
    return f"{bytes_a_second / 1e9:.1f} GB/s"


def _show(console: Console, report: StreamReport, path: Path) -> None:
    verdict = (
        f"[green]all {report.tiles} tiles agree with numpy[/]"
        if report.correct
        else f"[red]{report.wrong_tiles} of {report.tiles} tiles are wrong[/]"
    )
    ring = f"{report.ring_count} x {format_bytes(report.buffer_size)}, {report.buffer_stalls} stalls"
    moved = f"{format_bytes(report.bytes_up)} up, {format_bytes(report.bytes_down)} down"
    peak, limit = format_bytes(report.peak_host_visible_bytes), format_bytes(report.limit_bytes)
    difference = f"largest difference {report.largest_difference} of 255 grey levels, {TOLERANCE} allowed"
    rows = {
        "device": f"[bold]{escape(report.backend)}[/] {escape(report.device)}",
        "kernel": f"{HILLSHADE.name}, {verdict} ({difference})",
        "streamed": f"{moved} in {report.seconds:.3f} s: [bold]{_rate(report.throughput)}[/], where the link "
        f"alone allows {_rate(report.link_throughput)}",
        "in flight": f"{report.mean_tiles_in_flight:.1f} tiles on average, "
        f"{report.peak_tiles_in_flight} at most",
        "ring": f"{ring}, at most {format_bytes(report.peak_bytes_in_flight)} in flight",
        "readback": f"{report.readback_waits} reads had to wait for a block",
        "budget": f"{peak} of {limit} host-visible",
        "picture": escape(str(path)),
    }
    table(console, rows.items())
    if report.backend in MORE:
        console.print(f"[dim]{escape(MORE[report.backend])}[/]", soft_wrap=not console.is_terminal)
