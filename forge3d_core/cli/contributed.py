"""Commands that other distributions bring, by entry points of the group ``forge3d.commands``.

An entry point names a ``typer.Typer``, a click command, or a function such as Typer takes; its name
is the command's. It is imported when the command is run and not before, so a broken one costs only
itself.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import isfunction
from itertools import groupby
from typing import Any

import typer

from forge3d_core.errors import PluginFailed
from forge3d_core.plugins import Candidate, contained, discover, import_failure

COMMAND_GROUP = "forge3d.commands"


def contribute(app: typer.Typer) -> None:
    """Add every contributed command to ``app``; none replaces a command that is there already."""
    taken = {info.name or getattr(info.callback, "__name__", "") for info in app.registered_commands}
    for name, group in groupby(discover(COMMAND_GROUP), key=lambda c: c.name):
        candidates = tuple(group)
        if name not in taken:
            app.command(
                name,
                help=f"From {' and '.join(map(str, candidates))}.",
                rich_help_panel="Installed commands",
                add_help_option=False,
                context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
            )(_delegate(name, candidates))


def _delegate(name: str, candidates: tuple[Candidate, ...]) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        if len(candidates) > 1:
            offers = " and ".join(map(str, candidates))
            raise PluginFailed(f"{offers} both offer the command {name!r}; uninstall one of them")
        _command(candidates[0]).main(args=list(context.args), prog_name=f"forge3d {name}")

    return run


def _command(candidate: Candidate) -> Any:
    doing = f"importing the command {candidate.name!r} of {candidate}"
    if candidate.problem:
        raise PluginFailed(f"{candidate}: {candidate.problem}")
    try:
        target = candidate.fetch()
    except ImportError as error:
        raise import_failure(candidate, error, doing) from error
    except (Exception, SystemExit) as error:
        raise contained(error, doing, candidate.name) from error
    if isfunction(target):
        bare = typer.Typer(add_completion=False)
        bare.command()(target)
        target = bare
    command = typer.main.get_command(target) if isinstance(target, typer.Typer) else target
    if not callable(getattr(command, "main", None)):
        raise PluginFailed(
            f"{candidate.target} of {candidate} is {target!r}, no typer.Typer, click command or function"
        )
    return command
