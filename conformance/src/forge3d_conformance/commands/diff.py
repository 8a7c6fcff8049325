"""``forge3d diff``: one report against another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cattrs
import typer
from rich.console import Console

from forge3d_conformance.commands.output import complain, console, escape, table, write_json
from forge3d_conformance.diff import Diff, SpeedComparison, compare
from forge3d_conformance.errors import ReportError
from forge3d_conformance.report import Outcome, PerfResult, State
from forge3d_conformance.report.store import read

DIFFERENT = 1
UNREADABLE = 2

_COLOURS = {
    State.PASS: "green",
    State.FAIL: "bold red",
    State.UNEXPECTED_PASS: "bold red",
    State.KNOWN_FAILURE: "yellow",
    State.INCONCLUSIVE: "yellow",
    State.UNSUPPORTED: "blue",
    Outcome.KILLED: "green",
    Outcome.SURVIVED: "bold red",
}
_NOTE = 100

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
def diff(
    left: Annotated[Path, typer.Argument(help="A report.json, or the directory that holds it.")],
    right: Annotated[Path, typer.Argument(help="The report to compare it with.")],
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")] = False,
) -> None:
    """Compare two conformance reports: platform against platform, or before against after.

    Exits with 0 when every clause and every mutant fared alike, with 1 when some did not, and with 2
    when a report cannot be read. Speeds are shown beside each other and do not decide.
    """
    try:
        found = compare(read(left), read(right))
    except ReportError as error:
        complain(str(error))
        raise typer.Exit(UNREADABLE) from error
    if as_json:
        speeds = [speed.intervals for speed in found.speeds]
        data = cattrs.Converter().unstructure(found)
        for entry, intervals in zip(data["speeds"], speeds, strict=True):
            entry["intervals"] = intervals
        write_json({"same": found.same, **data})
    else:
        _show(console(), found)
    if not found.same:
        raise typer.Exit(DIFFERENT)


def _show(out: Console, found: Diff) -> None:
    rows: list[tuple[str, ...]]
    if found.context:
        rows = [(escape(f.name), escape(f.left or ""), escape(f.right or "")) for f in found.context]
        table(out, rows, ("", "left", "right"), "Where")
    if found.clauses:
        rows = [
            (
                clause.id,
                _mark(clause.left),
                _mark(clause.right),
                escape(" | ".join(map(_first_line, filter(None, (clause.left_note, clause.right_note))))),
            )
            for clause in found.clauses
        ]
        table(out, rows, ("clause", "left", "right", "note"), "Clauses in another state")
    if found.mutants:
        rows = [(escape(m.id), m.clause, _mark(m.left), _mark(m.right)) for m in found.mutants]
        table(out, rows, ("mutant", "clause", "left", "right"), "Mutants that fared otherwise")
    if found.speeds:
        rows = [
            (s.clause, escape(s.case), _ratio(s.left), _ratio(s.right), _verdict(s)) for s in found.speeds
        ]
        table(out, rows, ("clause", "case", "left", "right", "intervals"), "Ratios to the raw API")
    if found.mutants is None:
        mutants = "not compared, for want of a self-test in both reports"
    else:
        mutants = _differing(len(found.mutants))
    out.print(f"Clauses: {_differing(len(found.clauses))}, {found.agreeing} alike. Mutants: {mutants}.")


def _differing(count: int) -> str:
    return {0: "none differs", 1: "1 differs"}.get(count, f"{count} differ")


def _mark(state: State | Outcome | None) -> str:
    if state is None:
        return "[dim]absent[/]"
    colour = _COLOURS.get(state, "dim")
    return f"[{colour}]{state.value.replace('_', ' ')}[/]"


def _first_line(note: str) -> str:
    line = note.strip().partition("\n")[0]
    return line if len(line) <= _NOTE else line[: _NOTE - 1] + "…"


def _ratio(result: PerfResult | None) -> str:
    return f"{result.ratio:.3g}× ({result.low:.3g} to {result.high:.3g})" if result else "[dim]absent[/]"


def _verdict(speed: SpeedComparison) -> str:
    if speed.left is None or speed.right is None or speed.intervals != "apart":
        return f"[dim]{speed.intervals}[/]"
    return f"apart, by {speed.right.ratio / speed.left.ratio:.3g}×"
