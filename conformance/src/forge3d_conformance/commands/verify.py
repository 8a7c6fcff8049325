"""``forge3d verify``: whether a report may be believed, and what it proves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from forge3d_conformance import inventory
from forge3d_conformance.catalogue import load
from forge3d_conformance.commands.output import console, escape, write_json
from forge3d_conformance.errors import ReportError
from forge3d_conformance.report import Outcome, Report
from forge3d_conformance.report.store import JSON, contents
from forge3d_conformance.verify import Verification
from forge3d_conformance.verify import verify as check

NOT_CONFORMANT = 1
NOT_BELIEVED = 2

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
def verify(
    reports: Annotated[list[Path], typer.Argument(help="report.json, or the directory that holds it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")] = False,
) -> None:
    """Check conformance reports offline: schema, digest, the must-pass list, tests and mutants, the sums.

    Exits with 0 when every report proves its backend conformant, with 1 when one proves less, and
    with 2 when one is damaged, edited, made with another catalogue, or not a report.
    """
    verifications = [(path, _check(path)) for path in reports]
    if as_json:
        write_json([_data(path, verification) for path, verification in verifications])
    else:
        for path, verification in verifications:
            _show(console(), path, verification)
    if status := max(_status(verification) for _, verification in verifications):
        raise typer.Exit(status)


def _check(path: Path) -> Verification:
    try:
        return check(contents(path), load(), inventory.take())
    except ReportError as error:
        return Verification(None, (str(error),), None)


def _status(verification: Verification) -> int:
    if not verification.sound:
        return NOT_BELIEVED
    return 0 if verification.conformant else NOT_CONFORMANT


def _show(out: Console, path: Path, verification: Verification) -> None:
    out.print(f"[bold]{escape(str(path))}[/]")
    if verification.report is not None:
        out.print(f"  {escape(_title(verification.report))}")
    if verification.judgement is None or not verification.sound:
        told = "not to be believed" if _file(path) else "no report here"
        out.print(f"  [bold red]✕ {told}[/]")
        for defect in verification.defects:
            out.print(f"    {escape(defect)}")
        return
    if verification.stale:
        out.print(
            f"  schema, digest and sums agree; {len(verification.stale)} clauses are stale", soft_wrap=True
        )
    else:
        out.print("  schema, digest, catalogue, tests, mutants, sums and verdict agree")
    colour = "green" if verification.conformant else "red"
    mark = "✓" if verification.conformant else "✕"
    told = f"  [bold {colour}]{mark} {verification.judgement.verdict.value}[/]"
    if (
        verification.conformant
        and verification.report
        and (unspoken := [*load().unspoken(verification.report.level)])
    ):
        told += f"; {verification.report.level} does not speak of {escape(', '.join(unspoken))}"
    out.print(told, soft_wrap=True)
    for reason in verification.judgement.reasons:
        out.print(f"    {escape(reason)}")
    if exceptions := verification.judgement.exceptions:
        out.print(f"    not vouched for: {escape(', '.join(exceptions))}")
    if verification.report is not None:
        out.print(f"    self-test: {_score(verification.report)}")


def _file(path: Path) -> bool:
    """Whether there is anything to believe or not."""
    return path.is_file() or (path / JSON).is_file()


def _title(report: Report) -> str:
    backend = report.backend
    counts = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in report.totals.items() if n)
    spec = f"{backend.name}:{backend.selector}" if backend.selector else backend.name
    adapter = f"{backend.adapter} ({backend.driver})" if backend.driver else backend.adapter
    return (
        f"{spec} ({backend.distribution} {backend.version}) on {adapter}, "
        f"level {report.level}, {report.started}: {counts}"
    )


def _score(report: Report) -> str:
    """Say how many of the mutants that could show at all were killed."""
    if not report.mutants:
        return "none was run"
    return "; ".join(map(str, report.scores))


def _data(path: Path, verification: Verification) -> dict[str, Any]:
    report, judgement = verification.report, verification.judgement
    return {
        "report": str(path),
        "believed": verification.sound,
        "conformant": verification.conformant,
        "defects": list(verification.defects),
        "verdict": judgement.verdict.value if judgement and verification.sound else None,
        "reasons": list(judgement.reasons) if judgement else [],
        "exceptions": list(judgement.exceptions) if judgement else [],
        "stale": list(verification.stale),
        "totals": report.totals if report else None,
        "mutants": (
            {outcome.value: len(report.mutants_with(outcome)) for outcome in Outcome} if report else None
        ),
    }
