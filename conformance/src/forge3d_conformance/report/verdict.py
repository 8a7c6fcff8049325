"""The rule from results to a verdict, in one place: runs, ``verify`` and pages all ask here."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import attrs

from forge3d_conformance.catalogue import Catalogue, RunLevel
from forge3d_conformance.report.results import ClauseResult, MutantResult
from forge3d_conformance.report.states import Outcome, Phase, State, Verdict


@attrs.frozen
class Judgement:
    """A verdict, why it is no better, and which core clauses it does not vouch for."""

    verdict: Verdict
    reasons: tuple[str, ...]
    exceptions: tuple[str, ...]  # core clauses that are unsupported or known to fail


def judge(
    catalogue: Catalogue,
    level: RunLevel,
    phase: Phase,
    clauses: Collection[ClauseResult],
    mutants: Collection[MutantResult],
) -> Judgement:
    """Return what the results prove.

    *nonconformant*: something failed, passed against its declaration, or is called unsupported
    though it needs nothing that a backend may lack. *incomplete*: nothing failed, and the run did not
    finish, tested nothing, left out a clause that its level binds, found no answer for a core clause,
    or let a mutant of a binding clause live, so that the clause's pass proves nothing. *conformant*:
    neither.
    """
    broken = tuple(_broken(catalogue, clauses))
    open_ends = tuple(_open_ends(catalogue, level, phase, clauses, mutants))
    verdict = Verdict.NONCONFORMANT if broken else Verdict.INCOMPLETE if open_ends else Verdict.CONFORMANT
    return Judgement(verdict, broken + open_ends, tuple(_exceptions(clauses)))


def _broken(catalogue: Catalogue, clauses: Collection[ClauseResult]) -> Iterator[str]:
    for result in clauses:
        if result.state is State.FAIL:
            yield f"{result.id} fails"
        elif result.state is State.UNEXPECTED_PASS:
            yield f"{result.id} passes although it is declared a known failure; drop the declaration"
        elif (
            result.state is State.UNSUPPORTED and result.id in catalogue and not catalogue[result.id].requires
        ):
            yield f"{result.id} is called unsupported, and needs nothing that a backend may lack"


def _open_ends(
    catalogue: Catalogue,
    level: RunLevel,
    phase: Phase,
    clauses: Collection[ClauseResult],
    mutants: Collection[MutantResult],
) -> Iterator[str]:
    if phase is Phase.RUNNING:
        yield "the run has not finished: it goes on, or it was killed"
    if not any(result.state is State.PASS for result in clauses):
        yield "no clause passed"
    states = {result.id: result.state for result in clauses}
    binding = [clause for clause in catalogue if clause.binding_at(level)]
    unrun = [c.id for c in binding if states.get(c.id, State.NOT_RUN) in (State.NOT_RUN, State.PLANNED)]
    if unrun:
        yield f"{len(unrun)} of the {len(binding)} clauses of level {level} were not run: {', '.join(unrun)}"
    for clause in binding:
        if states.get(clause.id) is State.INCONCLUSIVE and clause.level == "core":
            yield f"{clause.id} is inconclusive"
    for mutant in mutants:
        if mutant.outcome is Outcome.SURVIVED and (
            mutant.clause in catalogue and catalogue[mutant.clause].binding_at(level)
        ):
            yield f"mutant {mutant.id} survived, so the test of {mutant.clause} proves nothing here"


def _exceptions(clauses: Collection[ClauseResult]) -> Iterator[str]:
    for result in clauses:
        if result.level == "core" and result.state in (State.UNSUPPORTED, State.KNOWN_FAILURE):
            yield result.id
