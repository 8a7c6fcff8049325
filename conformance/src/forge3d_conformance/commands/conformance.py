"""``forge3d conformance``: the suite over one backend, on this machine."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from forge3d_conformance.commands.output import complain, console, escape, escape_lines, table, write_json
from forge3d_conformance.events import Event
from forge3d_conformance.report import Outcome, Score, State, Verdict, scores
from forge3d_conformance.report.store import HTML, JSON, SCRIPTS
from forge3d_conformance.running import Ran, run_suite
from forge3d_conformance.target import installed

TOLD = ("verdict", "reasons", "exceptions", "unspoken", "clauses", "mutants")

FAILED = 1
NO_RESULT = 2

_SHORT = {
    State.PASS: "[green]pass[/]",
    State.FAIL: "[bold red]fail[/]",
    State.UNEXPECTED_PASS: "[bold red]unexpected pass[/]",
    State.KNOWN_FAILURE: "[yellow]known failure[/]",
    State.INCONCLUSIVE: "[yellow]inconclusive[/]",
    State.UNSUPPORTED: "[blue]unsupported[/]",
    State.NOT_RUN: "[red]not run[/]",
}

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
def conformance(
    backend: Annotated[
        str | None,
        typer.Option(envvar="FORGE3D_BACKEND", metavar="NAME[:SELECTOR]", help="The backend to test."),
    ] = None,
    level: Annotated[
        Literal["core", "full", "perf"], typer.Option(help="How much to test; perf is speed alone.")
    ] = "core",
    clause: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Only the clauses that match; may be repeated."),
    ] = None,
    report: Annotated[str | None, typer.Option(metavar="DIR", help="Write the report there.")] = None,
    self_test: Annotated[bool, typer.Option("--self-test", help="Show that every mutant is caught.")] = False,
    exact: Annotated[
        str,
        typer.Option(metavar="GLOB", help="Lay these mutants under every test; show what else they fail."),
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random choices.")] = 0,
    jobs: Annotated[
        int,
        typer.Option(min=0, max=256, help="Test in so many processes; 0 is as many as suit the device."),
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")] = False,
) -> None:
    """Test a backend against every clause of the catalogue.

    Exits with 0 when all that was selected holds, with 1 when something does not or could not be
    shown, as for want of a hold, and with 2 when there is no result: no backend, no clause, or a run
    that crashed. What it does not vouch for stands beside the verdict.
    """
    if not backend:
        complain(
            "no backend to test: give --backend NAME or set FORGE3D_BACKEND; installed: "
            + (", ".join(sorted(installed())) or "none")
        )
        raise typer.Exit(NO_RESULT)
    if report == "":  # which as a path would be the working directory
        complain("no directory for the report: --report takes its name, '.' for this one")
        raise typer.Exit(NO_RESULT)
    arguments = ["--backend", backend, "--level", level, "--seed", str(seed), "--jobs", str(jobs)]
    for glob in clause or ():
        arguments += ["--clause", glob]
    if report is not None:
        arguments += ["--report", str(Path(report).resolve())]
    if exact:
        arguments += ["--exact", exact]
    if self_test or exact:
        arguments.append("--self-test")
    ran = _run(arguments)
    folder = Path(report) if report else None
    status = _write(ran, backend) if as_json else _conclude(ran, console(), backend, folder)
    if status:
        raise typer.Exit(status)


def _run(arguments: list[str]) -> Ran:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("finding the backend", total=None)
        told = set[str]()

        def once(line: str) -> None:
            if line not in told:
                told.add(line)
                progress.console.print(line, soft_wrap=True)

        def tell(event: Event) -> None:
            match event["event"]:
                case "begin":
                    progress.update(task, total=event["tests"])
                case "start":
                    what = event["mutant"] or event["clause"]
                    progress.update(task, description=f"{what:<36}")
                    if not progress.console.is_terminal:  # which would see the bar move
                        once(f"testing {event['clause'].partition('.')[0]}")
                case "test":
                    progress.advance(task)
                    if event["ending"] == "fail" and not event["mutant"]:
                        once(f"[bold red]fail[/] {event['clause']}")

        try:
            return run_suite(arguments, tell)
        except (KeyboardInterrupt, SystemExit):
            state = progress.tasks[task]
            complain(
                f"interrupted after {state.completed:.0f} of {state.total or 0:.0f} tests: nothing is proven"
            )
            raise


def _conclude(ran: Ran, out: Console, backend: str, report: Path | None) -> int:
    end = ran.last
    if end is None:
        complain(_why_no_end(ran))
        return NO_RESULT
    if not end["clauses"]:
        complain("; ".join(end["reasons"]))
        return NO_RESULT
    _areas(out, end["clauses"])
    for score in _scores(end):
        out.print(str(score))
    if end["strays"]:
        rows = [(s["mutant"], s["breaks"], s["clause"], escape(s["message"])) for s in end["strays"]]
        table(out, rows, ("mutant", "breaks", "fails as well", "as"))
    seen: dict[str, str] = {}
    for result in end["clauses"]:
        if State(result["state"]).failing:
            out.print(f"\n[bold red]{result['state'].replace('_', ' ')}[/] [bold]{result['id']}[/]")
            out.print(escape_lines("\n".join(_news(result["message"], result["id"], seen))), soft_wrap=True)
            out.print(f"repeat: [cyan]{escape(result['repro'])}[/]", soft_wrap=True)
    for reason in end["reasons"]:  # the clauses that fail are none of them: they have just been told
        out.print(f"[red]✕[/] {escape(reason.splitlines()[0])}", soft_wrap=True)
    if report is not None:
        failing = any(State(result["state"]).failing for result in end["clauses"])
        scripts = f"; {SCRIPTS}/ holds a script for each failure" if failing else ""
        out.print(f"report: {escape(os.path.relpath(report / JSON))}, {HTML} beside it{scripts}")
    if ran.doubt:
        out.print(f"[red]✕[/] {escape(ran.doubt)}", soft_wrap=True)
    out.print(_verdict(ran, end, backend), soft_wrap=True)
    return 0 if ran.holds else FAILED


def _news(message: str, clause: str, seen: dict[str, str]) -> Iterator[str]:
    """Yield the lines of a failure; of tests that saw what was told before, only where that stands.

    ``seen`` says in which clause each thing was told first.
    """
    again: dict[str, list[str]] = {}
    told = True
    for line in message.splitlines():
        test, _, what = line.partition(": ")
        if test.startswith("test_"):
            if told := what not in seen:
                seen[what] = clause
            else:
                again.setdefault(seen[what], []).append(test)
        if told:
            yield line
    for first, tests in again.items():
        yield f"the same as {'above' if first == clause else first}: {', '.join(tests)}"


def _verdict(ran: Ran, end: Event, backend: str) -> str:
    verdict = f": {end['verdict']}" if end["whole"] else " in what was selected"
    if ran.holds:
        told = f"[bold green]✓ {escape(backend)} holds{verdict}[/]"
    elif end["verdict"] == Verdict.NONCONFORMANT:
        told = f"[bold red]✕ {escape(backend)} does not hold{verdict}[/]"
    else:
        told = f"[bold red]✕ {escape(backend)} is not shown to hold{verdict}[/]"
    exceptions = ", ".join(end["exceptions"])
    told = f"{told}, not vouched for: {exceptions}" if exceptions else told
    killed = "".join(f", {score}" for score in _scores(end))
    told += escape(killed)
    unspoken = ", ".join(end["unspoken"]) if end["whole"] else ""
    return f"{told}; core does not speak of {unspoken}" if unspoken else told


def _scores(end: Event) -> tuple[Score, ...]:
    return scores((found["id"], Outcome(found["outcome"])) for found in end["mutants"])


def _areas(out: Console, clauses: list[dict[str, Any]]) -> None:
    states = [state for state in _SHORT if any(result["state"] == state for result in clauses)]
    counts: dict[str, Counter[str]] = {}
    for result in clauses:
        counts.setdefault(result["id"].partition(".")[0], Counter())[result["state"]] += 1
    rows = [(area, *(str(found[state] or "·") for state in states)) for area, found in counts.items()]
    table(out, rows, ("area", *(_SHORT[state] for state in states)))


def _write(ran: Ran, backend: str) -> int:
    """Write what the run came to as JSON; without an end it is the reason."""
    end = ran.last or {}
    write_json(
        {
            "backend": backend,
            "holds": ran.holds,
            "error": ran.doubt or None if ran.last else _why_no_end(ran),
            **{
                key: end.get(key)
                for key in ("verdict", "reasons", "exceptions", "unspoken", "clauses", "mutants", "strays")
            },
        }
    )
    if not end.get("clauses"):
        return NO_RESULT
    return 0 if ran.holds else FAILED


def _why_no_end(ran: Ran) -> str:
    errors = [line.removeprefix("ERROR: ") for line in ran.output.splitlines() if line.startswith("ERROR: ")]
    if errors and not ran.at:
        return "\n".join(errors)
    tail = "\n".join(ran.output.splitlines()[-20:])
    return f"{ran.how}; nothing is proven. Its last lines:\n{tail}"
