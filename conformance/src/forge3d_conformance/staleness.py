"""What an older report still says: the clauses whose tests are today as they were then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from forge3d_conformance.catalogue import Catalogue, Clause
from forge3d_conformance.inventory import Inventory
from forge3d_conformance.report import ClauseResult, MutantResult, Outcome, Report, State, tally

CHANGED = "it or its tests have changed since this report"


def still_speaking(
    report: Report, catalogue: Catalogue, inventory: Inventory
) -> tuple[Report, tuple[str, ...]]:
    """Return the report as one of today's catalogue, and the clauses of the catalogue that are stale in it.

    A clause is stale that was to be tested and whose digest is not the report's. It is *not run*, and so is
    a mutant that came after the report; what the suite has no more is left out.
    """
    binding = catalogue.binding(report.level, report.selection)
    found = {result.id: result for result in report.clauses}
    stale: list[str] = []
    clauses: list[ClauseResult] = []
    for clause in catalogue:
        result = found.get(clause.id)
        if result is not None and result.digest == inventory.digest_of(clause):
            clauses.append(result)
            continue
        clauses.append(_unrun(clause))
        if clause in binding:
            stale.append(clause.id)
    mutants = tuple(_mutants(report, catalogue, inventory, stale)) if report.mutants else ()
    speeds = tuple(
        speed for speed in report.performance if speed.clause in catalogue and speed.clause not in stale
    )
    current = attrs.evolve(
        report, clauses=tuple(clauses), mutants=mutants, performance=speeds, totals=tally(clauses)
    )
    return current, tuple(stale)


def _unrun(clause: Clause) -> ClauseResult:
    if not clause.active:
        return ClauseResult(clause.id, clause.level, State.PLANNED, reason=clause.how)
    return ClauseResult(clause.id, clause.level, State.NOT_RUN, reason=CHANGED)


def _mutants(
    report: Report, catalogue: Catalogue, inventory: Inventory, stale: Iterable[str]
) -> Iterator[MutantResult]:
    """Yield what became of today's mutants of the clauses that are not stale."""
    found = {result.id: result for result in report.mutants}
    for clause in catalogue.binding(report.level, report.selection):
        for mutant in inventory.mutants.get(clause.id, ()) if clause.id not in stale else ():
            yield found.get(mutant.name) or MutantResult(
                mutant.name, clause.id, mutant.about, Outcome.NOT_RUN, (), "it came after this report"
            )
