"""Where results go: standard output, for people or for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import rich.markup
from rich.console import Console
from rich.table import Table

from forge3d_core.printable import escaped, escaped_lines


def console() -> Console:
    """Return standard output for people; what is piped is not wrapped."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, soft_wrap=True)


def escape(text: str) -> str:
    """Return text of foreign origin as markup that shows it on one line, printable."""
    return rich.markup.escape(escaped(text))


def escape_lines(text: str) -> str:
    """Return evidence of several lines as markup that shows it, each line printable."""
    return rich.markup.escape(escaped_lines(text))


def table(out: Console, rows: Iterable[Sequence[str]], header: Sequence[str], title: str = "") -> None:
    """Print rows of markup: in columns on a terminal, else a line each, neither padded nor wrapped."""
    if out.is_terminal:
        columns = Table(title=title or None, title_justify="left", title_style="bold", header_style="dim")
        columns.box, columns.pad_edge = None, False
        for name in header:
            columns.add_column(name, overflow="fold", no_wrap=name in ("area", "clause", "mutant"))
        for row in rows:
            columns.add_row(*row)
        out.print(columns)
        return
    for line in ([title] if title else [], header, *rows):
        if line:
            out.print("  ".join(filter(None, line)))


def complain(message: str) -> None:
    """Write an error to standard error as it stands, unwrapped, each line printable."""
    out = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    out.print(escaped_lines(message))


def write_json(data: Any) -> None:
    """Write ``data`` as indented JSON, never wrapped or coloured; in ASCII, so it repaints no terminal."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")
