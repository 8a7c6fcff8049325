"""The rule from results to a verdict, in one place: runs, ``verify`` and pages all ask here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import attrs

from forge3d_conformance.catalogue import Catalogue, Clause
from forge3d_conformance.report.report import Report
from forge3d_conformance.report.states import Outcome, Phase, State, Verdict
from forge3d_conformance.subject import INDISPENSABLE


@attrs.frozen
class Judgement:
    """What a run proves, and why it proves no more.

    ``failures`` and ``waivers`` make it *nonconformant*: something failed or passed against its
    declaration, or is called unsupported and lacks nothing that it requires. ``open_ends`` and
    ``left_out`` make it *incomplete*: what the run was to show and did not, and what its selection left
    out. ``exceptions`` are the core clauses that it does not vouch for.
    """

    failures: tuple[str, ...]
    waivers: tuple[str, ...]
    open_ends: tuple[str, ...]
    left_out: tuple[str, ...]
    exceptions: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        if self.failures or self.waivers:
            return Verdict.NONCONFORMANT
        return Verdict.INCOMPLETE if self.open_ends or self.left_out else Verdict.CONFORMANT

    @property
    def reasons(self) -> tuple[str, ...]:
        return self.failures + self.waivers + self.open_ends + self.left_out


def judge(catalogue: Catalogue, report: Report) -> Judgement:
    """Return what the results of a report prove; its own verdict is not looked at."""
    selected = catalogue.binding(report.level, report.selection)
    return Judgement(
        failures=tuple(_failures(report)),
        waivers=tuple(_waivers(catalogue, report)),
        open_ends=(*_open_ends(selected, report), *_lives(selected, report)),
        left_out=tuple(_left_out(catalogue.binding(report.level), selected, report)),
        exceptions=tuple(
            result.id
            for result in report.in_state(State.UNSUPPORTED, State.KNOWN_FAILURE)
            if result.level == "core"
        ),
    )


def unlent(clauses: Collection[Clause], capabilities: Collection[str]) -> Iterator[str]:
    """Say of each indispensable capability that these clauses require and nobody lends how to lend it."""
    for name, how in INDISPENSABLE.items():
        needing = sum(name in clause.requires for clause in clauses)
        if needing and name not in capabilities:
            noun = "clause requires" if needing == 1 else "clauses require"
            yield (
                f"{name} is not lent, and {needing} {noun} it; every GPU API can: {how}. "
                "Lend it from a conformance subject (docs/writing-a-backend.md, 7)"
            )


def _failures(report: Report) -> Iterator[str]:
    for result in report.in_state(State.FAIL):
        yield f"{result.id} fails: {_line(result.message)}"
    for result in report.in_state(State.UNEXPECTED_PASS):
        yield f"{result.id} passes although it is declared a known failure; drop the declaration"


def _waivers(catalogue: Catalogue, report: Report) -> Iterator[str]:
    """A clause is unsupported only for want of something: whatever else is said of it is an excuse."""
    for result in report.in_state(State.UNSUPPORTED):
        if result.id in catalogue and set(catalogue[result.id].requires) <= set(report.capabilities):
            yield f"{result.id} is called unsupported, and lacks nothing that it requires: {result.reason}"


def _open_ends(selected: Sequence[Clause], report: Report) -> Iterator[str]:
    if report.phase is Phase.RUNNING:
        yield "the run has not finished: it goes on, or it was killed"
    if not report.in_state(State.PASS):
        yield "no clause passed"
    yield from unlent(selected, report.capabilities)
    results = {result.id: result for result in report.clauses}
    unrun: dict[str, list[str]] = {}
    for clause in selected:
        result = results.get(clause.id)
        if result is None or result.state in (State.NOT_RUN, State.PLANNED):
            unrun.setdefault((result and result.reason) or "it has no result", []).append(clause.id)
        elif result.state is State.INCONCLUSIVE:
            yield f"{clause.id} is inconclusive: {_line(result.reason)}"
    for reason, ids in unrun.items():
        yield f"{len(ids)} of {len(selected)} clauses to be tested were not run ({reason}): {', '.join(ids)}"


def _lives(selected: Sequence[Clause], report: Report) -> Iterator[str]:
    """Name the mutants that were not caught: the passes of their clauses prove nothing."""
    ids = {clause.id for clause in selected}
    for mutant in report.mutants:
        if mutant.clause not in ids:
            continue
        if mutant.outcome is Outcome.SURVIVED:
            yield (
                f"mutant {mutant.id} survived, so the test of {mutant.clause} proves nothing here: "
                f"{_line(mutant.reason)}"
            )
        elif mutant.outcome is Outcome.NOT_RUN:
            yield f"mutant {mutant.id} of {mutant.clause} was not run: {_line(mutant.reason)}"


def _left_out(binding: Sequence[Clause], selected: Sequence[Clause], report: Report) -> Iterator[str]:
    if beyond := len(binding) - len(selected):
        yield (
            f"the selection {report.selection!r} leaves out {beyond} of the {len(binding)} clauses of level "
            f"{report.level}"
        )


def _line(text: str | None) -> str:
    return (text or "").partition("\n")[0]
