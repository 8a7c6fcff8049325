"""Write the tables of ``docs/performance.md`` from the results beside it, or check that they are up to date.

``python -m forge3d_conformance.speed [--check] [--take NAME=FILE] [PATH]`` exits with 1 when the two differ.
``--take cuda-h200=bench-cuda.json`` puts a newer result in place of the one of that name first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forge3d_conformance.errors import ReportError
from forge3d_conformance.speed.results import dump, read
from forge3d_conformance.speed.tables import RESULTS, with_tables


def performance(
    path: Annotated[Path, typer.Argument(help="The document.")] = Path("docs/performance.md"),
    check: Annotated[bool, typer.Option("--check", help="Only compare; fail when different.")] = False,
    take: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Take this result in first; may be repeated."),
    ] = None,
) -> None:
    """Write the document's tables from the results in the folder of its name, or compare them."""
    for each in take or ():
        name, _, result = each.partition("=")
        if name not in RESULTS:
            raise ReportError(f"--take {each}: the document shows {', '.join(RESULTS)}")
        (path.with_suffix("") / f"{name}.json").write_text(dump(read(Path(result))), "utf-8")
    document = path.read_text("utf-8")
    text = with_tables(document, path.with_suffix(""))
    if not check:
        path.write_text(text, encoding="utf-8", newline="\n")
    elif document != text:
        typer.echo(f"{path} differs from its results; run: python -m forge3d_conformance.speed", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(performance)
