"""``forge3d backends``: every known plugin, its state, why, and what would mend it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from forge3d_core.cli.describe import complaints, device, states, status_data
from forge3d_core.cli.output import progress, results, write_json
from forge3d_core.config import configuration
from forge3d_core.decision import Request, look
from forge3d_core.hookspecs import API
from forge3d_core.plugins import Status
from forge3d_core.registry import PUBLISHED, REGISTRY


def backends(
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")] = False,
) -> None:
    """List every known backend: its state, why, what would fix it, and its devices."""
    request = Request.of(configuration())
    with results() as console:
        statuses = _statuses(request)
        if as_json:
            write_json(console, {"api": str(API), "backends": [status_data(s) for s in statuses]})
        else:
            _show(console, statuses)


def _statuses(request: Request) -> list[Status]:
    names = sorted({*REGISTRY.candidates(), *PUBLISHED})
    with progress().status("probing") as spinner:
        found = []
        for name in names:
            spinner.update(f"probing {name}")
            named = request.named and request.spec.name == name
            found.append(look(REGISTRY, request, name, named=named))
    return found


def _show(console: Console, statuses: list[Status]) -> None:
    console.print(states(statuses))
    complaints(console, statuses)
    for status in statuses:
        for info in status.devices:
            device(console, status.name, info)
