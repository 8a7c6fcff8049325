"""``forge3d trace``: run a program and say what its devices did, and when."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from forge3d_core.cli.describe import escape
from forge3d_core.cli.output import results
from forge3d_core.errors import UsageError
from forge3d_core.protocols import Device
from forge3d_core.selection.observed import observed
from forge3d_core.trace import MAX_EVENTS, Trace, picture

INTERRUPTED = 130


def trace(
    script: Annotated[
        Path | None, typer.Argument(help="A program that opens its device with open_device().")
    ] = None,
    arguments: Annotated[list[str] | None, typer.Argument(help="Its arguments.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write JSON, for ui.perfetto.dev.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it as PNG; takes matplotlib.")] = None,
    window: Annotated[
        tuple[float, float] | None, typer.Option(help="The first and last millisecond to draw.")
    ] = None,
    plot_from: Annotated[Path | None, typer.Option(help="Draw this file instead of a program.")] = None,
    max_events: Annotated[int, typer.Option(min=1, help="Events of each kind to keep.")] = MAX_EVENTS,
) -> None:
    """Run a program and trace each device that it opens: lanes, blocks, waits, fences and host copies.

    Without -o and --plot it is told in text. Exits as the program does.
    """
    if plot_from is not None:
        if script is not None or output is not None:
            raise UsageError("--plot-from takes a file that was saved, and no program and no -o")
        document = picture.load(plot_from)
        if plot is not None:
            plot.write_bytes(picture.draw(document, window))
        else:
            _tell(picture.summary(document))
        return
    if script is None:
        raise UsageError("give a Python script to run, or --plot-from with a trace that was saved")
    if not script.is_file():
        raise UsageError(f"{str(script)!r} is no file; give a Python script")
    traced = Trace(max_events=max_events)
    code = _run(script, arguments or [], traced)
    if output is not None:
        traced.save(output)
    if plot is not None:
        traced.plot(plot, window=window)
    if output is None and plot is None:
        _tell(traced.summary())
    if code:
        raise typer.Exit(code)


def _tell(summary: str) -> None:
    with results() as console:
        console.print(escape(summary), soft_wrap=True)


def _run(script: Path, arguments: list[str], traced: Trace) -> int:
    """Run the program as ``python program.py`` would, in this process, and return its exit status."""
    left_out: list[str] = []

    def attach(device: Device) -> None:
        if hasattr(device, "tap"):
            traced.attach(device)  # type: ignore[arg-type]
        else:
            left_out.append(device.info.name)

    saved = sys.argv, sys.path[0]
    sys.argv, sys.path[0] = [str(script), *arguments], os.path.dirname(os.path.abspath(script))
    code = 0
    try:
        with traced, observed(attach):
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1 if leaving.code else 0
        if code and not isinstance(leaving.code, int):
            print(leaving.code, file=sys.stderr)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.argv, sys.path[0] = saved
    for name in left_out:
        print(f"forge3d: device {name!r} is of a backend that cannot be traced", file=sys.stderr)
    if not traced.devices and not left_out:
        print("forge3d: the program opened no device", file=sys.stderr)
    return code
