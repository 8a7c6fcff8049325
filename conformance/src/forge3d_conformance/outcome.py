"""What a run proves, and why it may prove nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from forge3d_conformance.errors import ReportError
from forge3d_conformance.record import clause_result, mutant_result
from forge3d_conformance.report import ClauseResult, MutantResult, Outcome, Report, State, finish, judge

if TYPE_CHECKING:
    from forge3d_conformance.session import ClauseSession


@attrs.frozen
class RunOutcome:
    """The results; ``reasons`` say why the run is not a success and are empty when it is."""

    clauses: tuple[ClauseResult, ...]
    mutants: tuple[MutantResult, ...]
    report: Report | None
    reasons: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Say it in a few lines: by area, then what failed and how to repeat it."""
        areas: dict[str, Counter[str]] = {}
        for result in self.clauses:
            areas.setdefault(result.area, Counter())[result.state.value] += 1
        for area, states in areas.items():
            yield f"{area:<10} " + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        if self.mutants:
            outcomes = Counter(result.outcome.value for result in self.mutants)
            yield f"{'mutants':<10} " + ", ".join(f"{n} {name}" for name, n in sorted(outcomes.items()))
        for result in self.clauses:
            if result.state.failing:
                yield f"{result.state.value}: {result.id}: {result.message}"
                yield f"    repeat: {result.repro}"
        for reason in self.reasons:
            yield f"not a success: {reason}"


def conclude(run: ClauseSession) -> RunOutcome:
    """Aggregate the records of a run and judge it."""
    info = run.target.info
    clauses = tuple(
        clause_result(
            run.catalogue[id],
            expected,
            [record for record in run.records if record.clause == id and record.mutant is None],
            known=run.known(id),
            key=f"{run.target.name} / {info.name} / {info.driver}",
            repro=run.repro(id),
        )
        for id, expected in run.expected.items()
    )
    mutants = tuple(
        mutant_result(mutant, [record for record in run.records if record.mutant == mutant.name])
        for mutant in run.mutants.values()
    )
    performance = [result for record in run.records if not record.mutant for result in record.performance]
    reasons = [*_failures(clauses, mutants), *_idle_capabilities(run, clauses)]
    report: Report | None = None
    try:
        report = finish(run.begun, run.catalogue, clauses, mutants=mutants, performance=performance)
    except ReportError as error:
        reasons.append(str(error))
    if report is not None and run.selection == "*" and not reasons:
        judgement = judge(run.catalogue, run.level, report.phase, report.clauses, report.mutants)
        reasons += judgement.reasons
    return RunOutcome(clauses, mutants, report, tuple(reasons))


def _failures(clauses: Sequence[ClauseResult], mutants: Sequence[MutantResult]) -> Iterator[str]:
    for result in clauses:
        if result.state.failing or result.state in (State.INCONCLUSIVE, State.NOT_RUN):
            yield f"{result.id} is {result.state.value}: {_line(result.message or result.reason)}"
    for mutant in mutants:
        if mutant.outcome is Outcome.SURVIVED:
            yield f"mutant {mutant.id} of {mutant.clause} survived: {_line(mutant.reason)}"


def _idle_capabilities(run: ClauseSession, clauses: Sequence[ClauseResult]) -> Iterator[str]:
    """A capability that is declared and then excused everywhere is a claim that nobody checked."""
    states = {result.id: result.state for result in clauses}
    for capability in sorted(run.target.subject.capabilities):
        needing = [id for id in states if capability in run.catalogue[id].requires]
        if needing and not any(states[id].tested for id in needing):
            yield f"{run.target.name} declares {capability!r}, and none of {len(needing)} clauses tested it"


def _line(text: str | None) -> str:
    return (text or "").partition("\n")[0]
