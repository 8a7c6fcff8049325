"""``forge3d new-backend``: the folder that a backend author begins with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from forge3d_conformance.commands.output import console, escape, write_json
from forge3d_conformance.scaffold import Scaffold

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
def new_backend(
    name: Annotated[str, typer.Argument(help="What it will be selected by, such as 'metal'.")],
    into: Annotated[Path, typer.Option(metavar="DIR", help="Where to make the folder.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")] = False,
) -> None:
    """Make the distribution of a new backend, whose conformance suite runs as it is.

    It opens a device and fails where code is still to be written, naming the file and what it must do.
    """
    made = Scaffold(name)
    path = os.path.relpath(made.write(into))
    if as_json:
        write_json({"name": name, "distribution": made.distribution, "folder": path})
        return
    folder, out = escape(path), console()
    out.print(f"[bold green]✓[/] {folder}/ holds the distribution {made.distribution}", soft_wrap=True)
    out.print(f"\n  pip install -e {folder}", soft_wrap=True)
    out.print(f"  forge3d conformance --backend {name}", soft_wrap=True)
    out.print(
        f"\nThe suite runs now, and fails where code is to be written: {folder}/README.md has the order, and "
        f"grep -rn 'raise Unwritten' {folder}/src the list.",
        soft_wrap=True,
    )
