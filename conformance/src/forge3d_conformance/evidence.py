"""Whether what a report calls evidence can have come from this suite's tests and mutants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

import attrs

from forge3d_conformance.catalogue import Catalogue, Clause
from forge3d_conformance.inventory import ClauseTest, Inventory, base
from forge3d_conformance.mutants import Mutant
from forge3d_conformance.report import ClauseResult, MutantResult, Outcome, Report, State


def evidence_defects(
    report: Report, catalogue: Catalogue, inventory: Inventory, stale: Collection[str] = ()
) -> Iterator[str]:
    """Say what is wrong with a report's tests and mutants, one sentence each; ``stale`` clauses have none."""
    binding = {clause.id: clause for clause in catalogue.binding(report.level, report.selection)}
    for result in report.clauses:
        if result.id in binding:
            yield from _Evidence(report, inventory, binding[result.id]).of_clause(result)
        elif result.state not in (State.NOT_RUN, State.PLANNED):
            yield (
                f"{result.id} is {result.state.value}, and no test of it runs in the selection "
                f"{report.selection!r} at level {report.level}"
            )
    speaking = [clause for clause in binding if clause not in stale]
    ours = {mutant.name: mutant for clause in speaking for mutant in inventory.mutants.get(clause, ())}
    found = {result.id: result for result in report.mutants}
    if strange := sorted(found.keys() - ours.keys()):
        yield f"this suite has no such mutants for what was tested: {', '.join(strange)}"
    missing = sorted(ours.keys() - found.keys())
    if found and missing:
        yield f"the self-test leaves out {len(missing)} mutants: {', '.join(missing)}"
    for name in sorted(found.keys() & ours.keys()):
        clause = binding[ours[name].breaks]
        yield from _Evidence(report, inventory, clause).of_mutant(found[name], ours[name])


@attrs.frozen
class _Evidence:
    """What speaks for one clause."""

    report: Report
    inventory: Inventory
    clause: Clause

    @property
    def tests(self) -> dict[str, ClauseTest]:
        return {test.name: test for test in self.inventory.tests.get(self.clause.id, ())}

    def possible(self, test: ClauseTest, *more: str) -> bool:
        """Whether all that the test needs, and ``more``, was lent."""
        return test.needs(self.clause).union(more) <= set(self.report.capabilities)

    def of_clause(self, result: ClauseResult) -> Iterator[str]:
        ran = Counter(base(name) for name in result.tests)
        if len(set(result.tests)) < len(result.tests) or ran.keys() - self.tests.keys():
            yield f"{self.clause.id} names tests that it has not got, or one twice: {', '.join(result.tests)}"
        if result.state not in (State.PASS, State.UNEXPECTED_PASS):
            return
        if not result.examples:
            yield f"{self.clause.id} is said to pass, and nothing was looked at"
        missing = [
            test.name for test in self.tests.values() if self.possible(test) and ran[test.name] < test.cases
        ]
        if missing:
            yield f"{self.clause.id} is said to pass without all of {', '.join(missing)}"

    def of_mutant(self, result: MutantResult, mutant: Mutant) -> Iterator[str]:
        if result.clause != mutant.breaks:
            yield f"mutant {mutant.name} breaks {mutant.breaks}, not {result.clause}"
        if strange := {base(name) for name in result.killed_by} - self.tests.keys():
            names = ", ".join(sorted(strange))
            yield f"mutant {mutant.name} was killed by what is no test of {mutant.breaks}: {names}"
        if result.outcome is Outcome.NOT_APPLICABLE and any(
            self.possible(test, *mutant.requires) for test in self.tests.values()
        ):
            yield f"mutant {mutant.name} is called not applicable, and lacks nothing that it requires"
