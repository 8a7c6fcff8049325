"""What a run proves, and why it may prove nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from forge3d_conformance.errors import ReportError
from forge3d_conformance.record import clause_result, mutant_result
from forge3d_conformance.report import (
    ClauseResult,
    Judgement,
    MutantResult,
    Report,
    finish,
    judge,
    scores,
    unlent,
)

if TYPE_CHECKING:
    from forge3d_conformance.session import ClauseSession


@attrs.frozen
class RunOutcome:
    """The results. ``reasons`` say why the run is no success, beside the clauses that failed."""

    clauses: tuple[ClauseResult, ...]
    mutants: tuple[MutantResult, ...]
    report: Report | None
    judgement: Judgement | None
    reasons: tuple[str, ...]

    @property
    def failing(self) -> tuple[ClauseResult, ...]:
        return tuple(result for result in self.clauses if result.state.failing)

    @property
    def holds(self) -> bool:
        """Whether all that was selected holds; of what was not, this says nothing."""
        return not self.failing and not self.reasons

    def lines(self) -> Iterator[str]:
        """Say it in a few lines: by area, then what failed and how to repeat it."""
        areas: dict[str, Counter[str]] = {}
        for result in self.clauses:
            areas.setdefault(result.area, Counter())[result.state.value] += 1
        for area, states in areas.items():
            yield f"{area:<10} " + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        for score in scores((result.id, result.outcome) for result in self.mutants):
            yield f"{'self-test':<10} {score}"
        for result in self.failing:
            yield f"{result.state.value}: {result.id}: {result.message}"
            yield f"    repeat: {result.repro}"
        for reason in self.reasons:
            yield f"not a success: {reason}"
        if self.judgement and self.judgement.exceptions:
            yield f"not vouched for: {', '.join(self.judgement.exceptions)}"


def conclude(run: ClauseSession) -> RunOutcome:
    """Aggregate the records of a run and judge it."""
    info = run.target.info
    clauses = tuple(
        clause_result(
            run.catalogue[id],
            expected,
            [record for record in run.records if record.clause == id and record.mutant is None],
            known=run.target.subject.known(id, info),
            key=f"{run.target.name} / {info.name} / {info.driver}",
            repro=run.repro(id),
        )
        for id, expected in run.expected.items()
    )
    mutants = tuple(
        mutant_result(
            mutant,
            run.expected[mutant.breaks],
            [r for r in run.records if r.mutant == mutant.name and r.clause == mutant.breaks],
        )
        for mutant in run.mutants.values()
    )
    performance = [result for record in run.records if not record.mutant for result in record.performance]
    idle = tuple(_idle_capabilities(run, clauses))
    try:
        report = finish(
            attrs.evolve(run.begun, jobs=run.jobs),
            run.catalogue,
            [attrs.evolve(each, digest=run.suite.digest_of(run.catalogue[each.id])) for each in clauses],
            suite_digest=run.suite.digest,
            mutants=mutants,
            performance=performance,
        )
    except ReportError as error:
        return RunOutcome(clauses, mutants, None, None, (str(error), *_untested(run, clauses), *idle))
    judgement = judge(run.catalogue, report)
    return RunOutcome(clauses, mutants, report, judgement, (*judgement.waivers, *judgement.open_ends, *idle))


def _untested(run: ClauseSession, clauses: Sequence[ClauseResult]) -> Iterator[str]:
    yield from unlent([run.catalogue[result.id] for result in clauses], run.target.capabilities)
    for result in clauses:
        yield f"{result.id} is {result.state.value.replace('_', ' ')}: {result.reason}"


def _idle_capabilities(run: ClauseSession, clauses: Sequence[ClauseResult]) -> Iterator[str]:
    """A capability that is declared and then excused everywhere is a claim that nobody checked."""
    states = {result.id: result.state for result in clauses}
    for capability in sorted(run.target.subject.capabilities):
        needing = [id for id in states if capability in run.catalogue[id].requires]
        if needing and not any(states[id].tested for id in needing):
            yield f"{run.target.name} declares {capability!r}, and none of {len(needing)} clauses tested it"
