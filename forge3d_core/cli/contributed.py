"""Commands that other distributions bring, by entry points of the group ``forge3d.commands``.

An entry point names a ``typer.Typer``, a click command, or a function such as Typer takes; its name
is the command's. It is imported when the command is run and not before, so a broken one costs only
itself, and only when the policy lets its distribution run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import isfunction
from itertools import groupby
from typing import Any

import attrs
import typer
from rich.markup import escape

from forge3d_core.config import configuration
from forge3d_core.errors import BackendDenied, PluginFailed
from forge3d_core.plugins import Candidate, contained, discover, import_failure, normalise
from forge3d_core.plugins.own import COMMANDS, installing
from forge3d_core.printable import shown

COMMAND_GROUP = "forge3d.commands"


def contribute(app: typer.Typer) -> None:
    """Add every contributed command to ``app``; none replaces a command of this project."""
    taken = {info.name or getattr(info.callback, "__name__", "") for info in app.registered_commands}
    for name, candidates in offered().items():
        if name not in taken:
            origins = " and ".join(map(str, candidates))
            app.command(
                name,
                help=escape(f"From {origins}."),
                rich_help_panel="Installed commands",
                add_help_option=False,
                context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
            )(_delegate(name, candidates))


def offered() -> dict[str, tuple[Candidate, ...]]:
    """Return what offers each command; a name of this project is offered by its distribution only."""
    found: dict[str, tuple[Candidate, ...]] = {}
    for name, group in groupby(discover(COMMAND_GROUP, COMMANDS), key=lambda c: c.name):
        candidates = tuple(group)
        found[name] = tuple(c for c in candidates if c.problem is None) or candidates
    return found


def _delegate(name: str, candidates: tuple[Candidate, ...]) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        let = tuple(_let(candidates)) if len(candidates) > 1 else candidates
        if len(let) > 1:
            offers = " and ".join(map(str, let))
            raise PluginFailed(f"{offers} both offer the command {name!r}; uninstall or deny one of them")
        _command((let or candidates)[0]).main(args=list(context.args), prog_name=f"forge3d {name}")

    return run


def _let(candidates: tuple[Candidate, ...]) -> Iterator[Candidate]:
    """Yield the candidates that the policy lets run."""
    for candidate in candidates:
        try:
            _permit(candidate)
        except BackendDenied:
            continue
        yield candidate


def _permit(candidate: Candidate) -> None:
    """Raise :class:`BackendDenied` where the policy keeps the candidate's distribution from running.

    What names one of the distribution's backends names the whole of it here: a command can do all that a
    backend can. The commands of this project do not stand on allow lists, which are of backends.
    """
    backends = {c.name for c in discover() if normalise(c.distribution) == normalise(candidate.distribution)}
    policy = configuration().policy
    if candidate.name in COMMANDS:
        policy = policy.without_allow_lists
    whole = attrs.evolve(candidate, also=frozenset(backends))
    if refusal := policy.refusal(whole, requested=True):
        raise BackendDenied(
            f"the command {candidate.name!r} ({candidate}) does not run: {refusal.reason}; "
            f"try: {refusal.fix}",
            backend=candidate.name,
            fix=refusal.fix,
        )


def _command(candidate: Candidate) -> Any:
    doing = f"importing the command {candidate.name!r} of {candidate}"
    if candidate.problem:
        owner = COMMANDS.get(candidate.name)
        advice = f"; for the real one: {installing(owner.distribution)}" if owner else ""
        raise PluginFailed(f"{candidate}: {candidate.problem}{advice}")
    _permit(candidate)
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
            f"{candidate.target} of {candidate} is {shown(target)}, no typer.Typer, click command or function"
        )
    return command
