"""Write ``docs/guarantees.md`` from the catalogue, or check that it is up to date.

``python -m forge3d_conformance.catalogue [--check] [PATH]``; exit status 1 when the two differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forge3d_conformance.catalogue.guarantees import render
from forge3d_conformance.catalogue.load import load


def guarantees(
    path: Annotated[Path, typer.Argument(help="The document.")] = Path("docs/guarantees.md"),
    check: Annotated[bool, typer.Option("--check", help="Only compare; fail when different.")] = False,
) -> None:
    """Write the guarantees as a document, or check that the document is up to date."""
    text = render(load())
    if not check:
        path.write_text(text, encoding="utf-8", newline="\n")
        typer.echo(f"wrote {path}: {len(load())} clauses")
    elif not path.exists() or path.read_text("utf-8") != text:
        typer.echo(
            f"{path} differs from the catalogue; run: python -m forge3d_conformance.catalogue", err=True
        )
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(guarantees)
