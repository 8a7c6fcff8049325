"""The command ``forge3d``: its own commands, and those that other distributions bring."""

from __future__ import annotations

import os
import sys
import warnings
from importlib import metadata
from typing import Annotated, TextIO

import typer

from forge3d_core.cli.backends import backends
from forge3d_core.cli.contributed import contribute
from forge3d_core.cli.demo import demo
from forge3d_core.cli.explain import explain
from forge3d_core.cli.simulate import simulate
from forge3d_core.cli.top import top
from forge3d_core.cli.trace import trace
from forge3d_core.config import ConfigWarning
from forge3d_core.errors import ForgeError
from forge3d_core.hookspecs import API
from forge3d_core.printable import described, escaped

DISTRIBUTION = "forge3d-core"
FAILURE = 2
INTERRUPTED = 130

app = typer.Typer(
    name="forge3d",
    help="Stream data through a GPU, on any backend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(backends)
app.command()(explain)
app.command()(demo)
app.command()(simulate)
app.command()(trace)
app.command(context_settings={"allow_interspersed_args": False})(top)  # what follows a script is the script's


def _version(wanted: bool) -> None:
    if wanted:
        try:
            version = metadata.version(DISTRIBUTION)
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        typer.echo(f"{DISTRIBUTION} {version}, plugin API {API}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit: 0 done, 1 the answer is no, 2 it could not be done, 130 interrupted."""
    warnings.showwarning = _show_warning
    try:
        contribute(app)
        app(prog_name=app.info.name)
    except ForgeError as error:
        print(f"forge3d: {escaped(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(FAILURE)
    except (OSError, MemoryError) as error:  # a full disk, a folder that cannot be written to
        print(f"forge3d: {described(error)}", file=sys.stderr)
        sys.exit(FAILURE)
    except KeyboardInterrupt:
        print("forge3d: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        _leave_stdout()


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Write a warning to standard error, on one line; of ours the code's place is of no interest."""
    place = "" if issubclass(category, ConfigWarning) else f"{filename}:{lineno}: {category.__name__}: "
    print(f"forge3d: {escaped(f'{place}{message}')}", file=file or sys.stderr)


def _leave_stdout() -> None:
    """Point standard output at standard error: what plugins print while the process ends is no result."""
    try:
        sys.stdout.flush()
        os.dup2(2, 1)
    except OSError:  # a reader that went away, or no such streams
        pass
