"""The report of one run: what was tested, where, what came of each clause, and what that proves."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from forge3d_conformance.catalogue import RunLevel
from forge3d_conformance.errors import ReportError
from forge3d_conformance.report.environment import BackendIdentity, Platform
from forge3d_conformance.report.results import ClauseResult, MutantResult, PerfResult
from forge3d_conformance.report.score import Score, scores
from forge3d_conformance.report.states import Outcome, Phase, State, Verdict

MAX_SELECTION = 4096
"""Characters of a selection: each of its globs is matched against every clause."""

SCHEMA = "forge3d-conformance-report/3"


@attrs.frozen
class Report:
    """One run. Times are UTC, ISO 8601; ``totals`` counts the clauses in each state.

    ``capabilities`` are what the device, its subject and the platform have of the catalogue's, and
    ``suite_digest`` is of the tests and mutants that there were to run, and None until the run has finished.
    ``jobs`` is in how many processes they ran.
    """

    suite_version: str
    catalogue_version: str
    catalogue_digest: str
    phase: Phase
    started: str
    finished: str | None
    backend: BackendIdentity
    platform: Platform
    level: RunLevel
    selection: str  # the globs that chose the clauses, commas between
    seed: int
    clauses: tuple[ClauseResult, ...]
    mutants: tuple[MutantResult, ...]
    performance: tuple[PerfResult, ...]
    totals: dict[str, int]
    verdict: Verdict
    capabilities: tuple[str, ...]
    suite_digest: str | None = None
    jobs: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    schema: str = attrs.field(default=SCHEMA, validator=attrs.validators.in_((SCHEMA,)))

    def __attrs_post_init__(self) -> None:
        if len(self.selection) > MAX_SELECTION:
            raise ReportError(f"a selection of {len(self.selection)} characters; {MAX_SELECTION} are allowed")
        if (self.suite_digest is None) != (self.phase is Phase.RUNNING):
            raise ReportError("a report says at its end, and not before, by which suite it was made")

    def in_state(self, *states: State) -> tuple[ClauseResult, ...]:
        return tuple(result for result in self.clauses if result.state in states)

    def mutants_with(self, outcome: Outcome) -> tuple[MutantResult, ...]:
        return tuple(mutant for mutant in self.mutants if mutant.outcome is outcome)

    @property
    def scores(self) -> tuple[Score, ...]:
        """How many mutants were killed, by family; empty without a self-test."""
        return scores((mutant.id, mutant.outcome) for mutant in self.mutants)


def tally(clauses: Iterable[ClauseResult]) -> dict[str, int]:
    """Return how many clauses are in each state; every state has its entry."""
    totals = {state.value: 0 for state in State}
    for result in clauses:
        totals[result.state.value] += 1
    return totals
