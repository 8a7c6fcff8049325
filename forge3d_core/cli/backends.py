"""``forge3d backends``: every known plugin, its state, why, and what would mend it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from forge3d_core.cli.describe import complaints, device, states, status_data
from forge3d_core.cli.output import progress, results, write_json
from forge3d_core.config import configuration
from forge3d_core.hookspecs import API
from forge3d_core.plugins import Status
from forge3d_core.plugins.own import BACKENDS
from forge3d_core.plugins.registry import REGISTRY
from forge3d_core.selection.decision import Request, looks


def backends(
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")] = False,
) -> None:
    """List every known backend: its state, why, what would fix it, and its devices.

    Every plugin is probed afresh, in a process of its own. Exits with 0, whatever the states are, and with 2
    when the configuration is wrong.
    """
    request = Request.of(configuration())
    with results() as console:
        statuses = _statuses(request)
        if as_json:
            write_json(console, {"api": str(API), "backends": [status_data(s) for s in statuses]})
        else:
            _show(console, statuses)


def _statuses(request: Request) -> list[Status]:
    names = sorted({*REGISTRY.candidates(), *BACKENDS})
    with progress().status("probing") as spinner:
        told = 0

        def tell(status: Status) -> None:
            nonlocal told
            told += 1
            spinner.update(f"probing, {told} of {len(names)}")

        found = looks(REGISTRY, request, names, fresh=True, told=tell)
    return sorted(found, key=lambda status: status.name)


def _show(console: Console, statuses: list[Status]) -> None:
    states(console, statuses)
    complaints(console, statuses)
    for status in statuses:
        for info in status.devices:
            device(console, status.name, info)
