"""Results on standard output, and nothing else there, whatever plugins print."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table


@contextmanager
def results() -> Iterator[Console]:
    """Yield a console on standard output; anything else written there meanwhile goes to standard error.

    That holds for ``print``, for the file descriptor, and so for native code and child processes.
    """
    stdout = sys.stdout
    stdout.flush()
    if not _is_descriptor(stdout, 1):
        sys.stdout = sys.stderr
        try:
            yield Console(file=stdout, highlight=False)
        finally:
            sys.stdout = stdout
        return
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with open(saved, "w", encoding=stdout.encoding, errors=stdout.errors, closefd=False) as stream:
            yield Console(file=stream, highlight=False)
        stdout.flush()  # what was printed meanwhile still goes the other way
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (io.UnsupportedOperation, OSError, AttributeError):
        return False


def write_json(console: Console, data: Any) -> None:
    """Write ``data`` as indented JSON, never wrapped or coloured; in ASCII, so it repaints no terminal."""
    console.file.write(json.dumps(data, indent=2) + "\n")


def table(console: Console, rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Print rows of markup: in columns on a terminal, else a line each, neither padded nor wrapped."""
    if not console.is_terminal:
        for row in (header, *rows) if header else rows:
            console.print("  ".join(filter(None, row)), soft_wrap=True)
        return
    shown = Table(
        box=None, pad_edge=False, show_header=bool(header), header_style="bold", padding=(0, 3, 0, 0)
    )
    cells = list(rows)
    for number in range(max(map(len, [header, *cells]), default=0)):
        last = number == max(map(len, [header, *cells])) - 1
        shown.add_column(header[number] if header else "", no_wrap=not last, overflow="fold")
    for row in cells:
        shown.add_row(*row)
    console.print(shown)


def indented(console: Console, markup: str, style: str = "") -> None:
    """Print a paragraph under its heading; wrapped on a terminal only."""
    if console.is_terminal:
        console.print(Padding(markup, (0, 0, 0, 2), expand=False), style=style)
    else:
        console.print(f"  {markup}", style=style, soft_wrap=True)


def progress() -> Console:
    """Return the console for what is under way: standard error."""
    return Console(stderr=True, highlight=False)
