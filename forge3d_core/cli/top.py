"""``forge3d top``: what devices hold, as they run: of a program that it starts, or of those that tell."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import attrs
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from forge3d_core.cli import bars
from forge3d_core.cli.output import results, write_json
from forge3d_core.errors import UsageError
from forge3d_core.status.board import Board
from forge3d_core.status.figures import ProcessStatus
from forge3d_core.status.program import Watching

NOTHING_TELLS = 1
SECONDS = 0.25


def top(
    script: Annotated[
        Path | None, typer.Argument(help="A program to run; default: show those that tell.")
    ] = None,
    arguments: Annotated[list[str] | None, typer.Argument(help="Its arguments, options too.")] = None,
    pid: Annotated[int | None, typer.Option(min=1, help="Of the processes that tell, this one.")] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Show the figures once: a program's at its end.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON, for machines; implies --once.")
    ] = False,
) -> None:
    """Show what devices hold: memory under its limits, rings, pools, and what is in flight.

    With a script it runs that program, shows the devices of it and of its child processes, and exits as the
    program does; what the program prints goes to standard error. Without, it shows the processes of this user
    that tell: those with FORGE3D_TOP=1 in their environment when they opened a device. It exits with 1 where
    there is none.
    """
    once = once or as_json
    if script is None:
        _attached(Board.of_user(), pid, once, as_json)
    elif pid is not None:
        raise UsageError("give a script to run, or --pid of a process that runs")
    else:
        raise typer.Exit(_run(script, arguments or [], once, as_json))


def _attached(board: Board, pid: int | None, once: bool, as_json: bool) -> None:
    statuses = _told(board, pid)
    screen = Console(highlight=False)
    if once or not screen.is_terminal:
        with results() as console:
            _write(console, statuses, None, as_json)
    elif statuses:
        with Live(bars.screen(statuses), console=screen, auto_refresh=False) as live:
            pause = threading.Event()
            while found := _told(board, pid):
                live.update(bars.screen(found), refresh=True)
                pause.wait(SECONDS)
    if not statuses:
        print(
            "forge3d: no process tells of its devices; start it with FORGE3D_TOP=1 in its environment, "
            "or try: forge3d top SCRIPT",
            file=sys.stderr,
        )
        raise typer.Exit(NOTHING_TELLS)


def _told(board: Board, pid: int | None) -> list[ProcessStatus]:
    if not board.folder.exists():
        return []
    return [status for status in board.read() if pid in (None, status.pid)]


def _run(script: Path, arguments: list[str], once: bool, as_json: bool) -> int:
    screen = Console(stderr=True, highlight=False)
    if screen.is_terminal and not once:
        with Watching(script, arguments, None) as program:
            return _live(screen, program)
    with results() as console, Watching(script, arguments, 2) as program:
        code = program.wait()
        assert code is not None
        _write(console, program.board.read(), code, as_json)
        return code


def _live(screen: Console, program: Watching) -> int:
    with Live(console=screen, auto_refresh=False) as live:

        def show() -> None:
            for line in program.lines:
                live.console.print(Text.from_ansi(line.rstrip("\n")))

        printing = threading.Thread(target=show, name="forge3d-top-output", daemon=True)
        printing.start()
        while (code := program.wait(SECONDS)) is None:
            live.update(bars.screen(program.board.read()), refresh=True)
        printing.join(SECONDS)  # a child of the program may keep its output open
        live.update(bars.screen(program.board.read()), refresh=True)
    return code


def _write(console: Console, statuses: list[ProcessStatus], code: int | None, as_json: bool) -> None:
    if as_json:
        data: dict[str, Any] = {"processes": [attrs.asdict(status) for status in statuses], "exit": code}
        write_json(console, data)
    elif statuses:
        bars.write(console, statuses)
    elif code is not None:
        console.print("the program opened no device")
