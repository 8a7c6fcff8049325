"""``forge3d explain``: which backend would open here, and which line of which source decided it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import attrs
import typer
from rich.console import Console

from forge3d_core.cli.describe import complaints, escape, states, status_data
from forge3d_core.cli.output import progress, results, table, write_json
from forge3d_core.config import Choice, configuration
from forge3d_core.plugins.devices import device_data
from forge3d_core.plugins.registry import REGISTRY
from forge3d_core.selection.decision import Decision, Request, decide
from forge3d_core.transfer.kept_tuning import find_tuning
from forge3d_core.transfer.tuning import Tuning, Tunings
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

    Exits with 0 when one would, with 1 when none would, and with 2 when the configuration is wrong.
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
    table(console, _reasons(decision))
    console.print()
    states(console, decision.statuses, decision.unasked)
    complaints(console, decision.statuses)


def _reasons(decision: Decision) -> Iterator[tuple[str, str]]:
    request = decision.request
    automatic = request.backend.source.origin == "default"
    reason = "nothing names a backend, so the highest score" if automatic else str(request.backend.source)
    rows = [("decided by", reason)]
    rows += [("overridden", str(choice.source)) for choice in request.overridden]
    rows.append(("budget", f"{format_bytes(request.budget.value)}  {request.budget.source}"))
    rows.append(("drain timeout", f"{request.drain_timeout.value:g} s  {request.drain_timeout.source}"))
    rows.append(("transfers", _transfers(decision)))
    rows += [("plugins", str(choice.source)) for choice in request.restrictions]
    for name, text in rows:
        yield f"[bold]{name}[/]", escape(text)


def _transfers(decision: Decision) -> str:
    """Return how large transfers would be cut, and why so."""
    choice, found = decision.request.tuning, _tunings(decision)
    tunings = found or Tunings()
    why = "measured on this machine" if found else "the constants"
    if not found and choice.value == "measured":
        why += ", unless a measurement was kept for the device, or is made before its first large upload"
    up, down = _told(tunings.upload), _told(tunings.read)
    both = up if up == down else f"{up}, reads {down}"
    return f"{both}: {why}  {choice.source}"


def _told(tuning: Tuning) -> str:
    sizes = f"{format_bytes(tuning.smallest)} to {format_bytes(tuning.largest)}"
    return f"chunks of {sizes}, {tuning.helpers} workers"


def _tunings(decision: Decision) -> Tunings | None:
    """Return what was measured for the device that would open, if that counts."""
    if decision.device is None or decision.request.tuning.value != "measured":
        return None
    return find_tuning(decision.device)


def _data(decision: Decision) -> dict[str, Any]:
    request, error, found = decision.request, decision.error, _tunings(decision)
    return {
        "opens": str(decision.chosen) if decision.chosen else None,
        "device": device_data(decision.device) if decision.device else None,
        "decided_by": _choice(request.backend),
        "overridden": [_choice(choice) for choice in request.overridden],
        "budget": _choice(request.budget),
        "drain_timeout": _choice(request.drain_timeout),
        "tuning": {**_choice(request.tuning), "measured": attrs.asdict(found) if found else None},
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
