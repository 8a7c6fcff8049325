"""``forge3d explain``: which backend would open here, and which line of which source decided it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from forge3d_core.cli.describe import complaints, device_data, states, status_data
from forge3d_core.cli.output import progress, results, write_json
from forge3d_core.config import Choice, configuration
from forge3d_core.decision import Decision, Request, decide
from forge3d_core.registry import REGISTRY
from forge3d_core.units import format_bytes

NOTHING_OPENS = 1


def explain(
    backend: Annotated[
        str | None,
        typer.Option("--backend", "-b", metavar="NAME[:SELECTOR]", help="As if this were asked for."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")] = False,
) -> None:
    """Say which backend would open here, and which line of which source decided it.

    Exits with 1 when none would.
    """
    request = Request.of(configuration(backend=backend))
    with results() as console:
        with progress().status("probing"):
            decision = decide(request, REGISTRY)
        if as_json:
            write_json(console, _data(decision))
        else:
            _show(console, decision)
    if decision.error is not None:
        raise typer.Exit(NOTHING_OPENS)


def _show(console: Console, decision: Decision) -> None:
    request = decision.request
    if decision.chosen is None:
        console.print("[bold red]Nothing would open.[/]")
    elif decision.device is not None:
        info = decision.device
        console.print(
            f"[bold green]{escape(str(decision.chosen))}[/] would open: "
            + escape(", ".join(filter(None, (info.name, info.kind, info.driver))))
        )
    else:
        console.print(
            f"[bold green]{escape(str(decision.chosen))}[/] would open, if {escape(request.spec.name)} "
            f"resolves the selector {escape(repr(request.spec.selector))}"
        )
    console.print()
    console.print(_reasons(decision))
    console.print()
    console.print(states(decision.statuses, decision.unasked))
    complaints(console, decision.statuses)


def _reasons(decision: Decision) -> Table:
    request = decision.request
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    automatic = request.backend.source.origin == "default"
    reason = "nothing names a backend, so the highest score" if automatic else str(request.backend.source)
    table.add_row("decided by", escape(reason))
    for choice in request.overridden:
        table.add_row("overridden", escape(str(choice.source)))
    table.add_row("budget", escape(f"{format_bytes(request.budget.value)}  {request.budget.source}"))
    table.add_row(
        "drain timeout", escape(f"{request.drain_timeout.value:g} s  {request.drain_timeout.source}")
    )
    for choice in request.restrictions:
        table.add_row("plugins", escape(str(choice.source)))
    return table


def _data(decision: Decision) -> dict[str, Any]:
    request, error = decision.request, decision.error
    return {
        "opens": str(decision.chosen) if decision.chosen else None,
        "device": device_data(decision.device) if decision.device else None,
        "decided_by": _choice(request.backend),
        "overridden": [_choice(choice) for choice in request.overridden],
        "budget": _choice(request.budget),
        "drain_timeout": _choice(request.drain_timeout),
        "plugins": [_choice(choice) for choice in request.restrictions],
        "candidates": [status_data(status) for status in decision.statuses],
        "not_asked": list(decision.unasked),
        "error": {"type": type(error).__name__, "message": str(error), "fix": error.fix} if error else None,
    }


def _choice(choice: Choice) -> dict[str, Any]:
    source = choice.source
    value = choice.value if isinstance(choice.value, bool | int | float | tuple) else str(choice.value)
    return {
        "key": choice.key,
        "value": value,
        "origin": source.origin,
        "path": str(source.path) if source.path else None,
        "line": source.line,
        "text": source.text or None,
    }
