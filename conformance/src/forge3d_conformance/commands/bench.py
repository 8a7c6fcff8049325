"""``forge3d bench``: what operations cost beside the raw API, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from forge3d_conformance.commands.output import complain, console
from forge3d_conformance.report import Aim
from forge3d_conformance.speed.compare import compare
from forge3d_conformance.speed.html import need_matplotlib, render
from forge3d_conformance.speed.html.page import figure
from forge3d_conformance.speed.measure import Tell, measure, select_rows
from forge3d_conformance.speed.results import Measured, SpeedReport, dump, read
from forge3d_conformance.speed.together import measure_together
from forge3d_core import load_backend, open_device
from forge3d_core.errors import ForgeError, NoDevice, UsageError

MISSED = 1
NO_RESULT = 2
BUDGET = "4 GiB"

_STYLES = {Aim.MET.value: "green", Aim.MISSED.value: "red", Aim.INCONCLUSIVE.value: "yellow"}

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
def bench(
    backend: Annotated[
        str | None,
        typer.Option(envvar="FORGE3D_BACKEND", metavar="NAME[:SELECTOR]", help="The backend to measure."),
    ] = None,
    size: Annotated[
        list[int] | None, typer.Option(metavar="BYTES", help="Only rows of this size; may be repeated.")
    ] = None,
    operation: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this operation of ours; may be repeated."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, max=60.0, help="For each operation and size.")] = 1.5,
    devices: Annotated[
        int, typer.Option(min=1, max=16, help="Measure so many devices of the backend at once.")
    ] = 1,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the result there.")] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a page with plots there (takes matplotlib)."),
    ] = None,
    beside: Annotated[
        Path | None,
        typer.Option("--compare", metavar="FILE", help="Show what changed since this earlier result."),
    ] = None,
) -> None:
    """Measure forge3d beside the raw API: ratios in one process, interleaved, with 95 % intervals.

    Times are context, ratios are the verdict. Exits with 0 when no target is missed, with 1 when one is,
    and with 2 when nothing could be measured.
    """
    try:
        then = read(beside) if beside is not None else None
        if json is not None:
            json.touch()  # what cannot be written is told now, not after the measurement
        if html is not None:
            need_matplotlib()
            html.mkdir(parents=True, exist_ok=True)
        if devices > 1:
            report = _run_together(backend, devices, seconds)
        else:
            report = _run(backend, size or (), operation or (), seconds)
    except (ForgeError, OSError) as error:
        complain(str(error))
        raise typer.Exit(NO_RESULT) from error
    if not report.rows:
        complain("nothing was measured: " + ("; ".join({m.reason for m in report.missing}) or "no row fits"))
        raise typer.Exit(NO_RESULT)
    out = console()
    _show(out, report)
    if then is not None:
        _show_changes(out, then, report)
    if json is not None:
        json.write_text(dump(report), "utf-8")
    if html is not None:
        page = html / f"bench-{report.backend}.html"
        page.write_text(render(report), "utf-8")
        out.print(f"page: {page}", markup=False, soft_wrap=True)
    if any(row.aim is Aim.MISSED for row in report.rows):
        raise typer.Exit(MISSED)


def _run(
    backend: str | None,
    sizes: tuple[int, ...] | list[int],
    operations: tuple[str, ...] | list[str],
    seconds: float,
) -> SpeedReport:
    with open_device(backend, budget=BUDGET) as device, _progress() as tell:
        rows = select_rows(device.info.backend, device.info.kind, sizes, operations)
        return measure(device, rows, seconds, tell)


def _run_together(backend: str | None, count: int, seconds: float) -> SpeedReport:
    if backend is None:
        raise UsageError(f"--devices {count} needs --backend, whose devices they are")
    plugin = load_backend(backend)
    infos = plugin.backend.probe()
    if len(infos) < count:
        names = ", ".join(info.name for info in infos) or "none"
        raise NoDevice(
            f"--devices {count}: {plugin.name} has {len(infos)} here: {names}", backend=plugin.name
        )
    with ExitStack() as stack:
        opened = [
            stack.enter_context(open_device(f"{plugin.name}:{info.selector}", budget=BUDGET))
            for info in infos[:count]
        ]
        return measure_together(opened, seconds, stack.enter_context(_progress()))


@contextmanager
def _progress() -> Iterator[Tell]:
    """Show on the terminal what is being measured."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("begin", total=None)
        yield lambda ours, nbytes: progress.update(task, description=f"{ours}, {nbytes} bytes")


def _show(out: Console, report: SpeedReport) -> None:
    out.print(f"{report.backend}: {report.adapter}, {report.driver}", markup=False, soft_wrap=True)
    rows: list[tuple[str, ...]] = [
        ("ours", "bytes", "beside", "ratio", "95 % interval", "target", "", "ours", "raw")
    ]
    rows += [_cells(row) for row in report.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:  # not rich's table, which cuts its cells where the output is narrow
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        out.print(line.rstrip(), style=_STYLES.get(cells[6]), markup=False, soft_wrap=True)
    for missing in report.missing:
        out.print(
            f"not taken: {missing.ours} beside {missing.raw}: {missing.reason}", markup=False, soft_wrap=True
        )
    for count in report.calls:
        out.print(
            f"{count.operation}: {count.calls} Python calls in {count.files} files",
            markup=False,
            soft_wrap=True,
        )


def _cells(row: Measured) -> tuple[str, ...]:
    return (
        row.ours,
        f"{row.size:,}" if row.size else "",
        row.raw,
        f"{row.ratio:.2f}",
        f"{row.low:.2f} to {row.high:.2f}",
        "" if row.target is None else f"{'≥' if row.better == 'higher' else '≤'} {row.target:g}",
        "" if row.aim is None else row.aim.value,
        figure(row, row.ours_seconds),
        figure(row, row.raw_seconds),
    )


def _show_changes(out: Console, then: SpeedReport, now: SpeedReport) -> None:
    for change in compare(then, now):
        if change.clear:
            word = "better" if change.better else "worse"
            out.print(
                f"{word}: {change.now.ours} beside {change.now.raw}, {change.now.size:,} bytes: "
                f"{change.then.ratio:.2f} → {change.now.ratio:.2f}",
                markup=False,
            )
    before = {count.operation: count.calls for count in then.calls}
    for count in now.calls:
        if before.get(count.operation, count.calls) != count.calls:
            out.print(
                f"{count.operation}: {before[count.operation]} → {count.calls} Python calls", markup=False
            )
