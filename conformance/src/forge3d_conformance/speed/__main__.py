"""Write the tables of ``docs/performance.md`` from the results beside it, or check that they are up to date.

``python -m forge3d_conformance.speed [--check] [PATH]``; exit status 1 when the two differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forge3d_conformance.speed.tables import with_tables


def performance(
    path: Annotated[Path, typer.Argument(help="The document.")] = Path("docs/performance.md"),
    check: Annotated[bool, typer.Option("--check", help="Only compare; fail when different.")] = False,
) -> None:
    """Write the document's tables from the results in the folder of its name, or compare them."""
    document = path.read_text("utf-8")
    text = with_tables(document, path.with_suffix(""))
    if not check:
        path.write_text(text, encoding="utf-8", newline="\n")
    elif document != text:
        typer.echo(f"{path} differs from its results; run: python -m forge3d_conformance.speed", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(performance)
