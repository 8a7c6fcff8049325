"""``forge3d diff``: one report against another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cattrs
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from forge3d_conformance.commands.output import complain, console, write_json
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
    if found.context:
        table = _table("Where", "", "left", "right")
        for fact in found.context:
            table.add_row(escape(fact.name), escape(fact.left or ""), escape(fact.right or ""))
        out.print(table)
    if found.clauses:
        table = _table("Clauses in another state", "clause", "left", "right", "note")
        for clause in found.clauses:
            notes = [note for note in (clause.left_note, clause.right_note) if note]
            note = " | ".join(_first_line(note) for note in notes)
            table.add_row(clause.id, _mark(clause.left), _mark(clause.right), escape(note))
        out.print(table)
    if found.mutants:
        table = _table("Mutants that fared otherwise", "mutant", "clause", "left", "right")
        for mutant in found.mutants:
            table.add_row(escape(mutant.id), mutant.clause, _mark(mutant.left), _mark(mutant.right))
        out.print(table)
    if found.speeds:
        table = _table("Ratios to the raw API", "clause", "case", "left", "right", "intervals")
        for speed in found.speeds:
            table.add_row(
                speed.clause, escape(speed.case), _ratio(speed.left), _ratio(speed.right), _verdict(speed)
            )
        out.print(table)
    if found.mutants is None:
        mutants = "not compared, for want of a self-test in both reports"
    else:
        mutants = _differing(len(found.mutants))
    out.print(f"Clauses: {_differing(len(found.clauses))}, {found.agreeing} alike. Mutants: {mutants}.")


def _differing(count: int) -> str:
    return {0: "none differs", 1: "1 differs"}.get(count, f"{count} differ")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("clause", "mutant"))
    return table


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
