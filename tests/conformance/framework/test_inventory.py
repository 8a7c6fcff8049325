"""What the suite itself must show: a test for every clause, a mutant for every core clause."""

from __future__ import annotations

import attrs
import pytest

from forge3d_conformance import inventory
from forge3d_conformance.catalogue import gaps, load


@pytest.mark.parametrize("area", [area.name for area in load().areas])
def test_nothing_is_missing(area: str) -> None:
    """When this fails, write what is missing, or call the clause planned in the catalogue."""
    suite = inventory.take()
    tests = {clause: [test.name for test in found] for clause, found in suite.tests.items()}
    mutants = {clause: [mutant.name for mutant in found] for clause, found in suite.mutants.items()}
    found = gaps(load(), tests, mutants)
    assert [gap for gap in found if f"{area}." in gap] == []


def test_the_cases_of_a_test_are_counted() -> None:
    cases = {test.name: test.cases for test in inventory.take().tests["ring.no-reuse-before-signal"]}
    assert cases["test_blocks_in_flight_are_not_handed_out"] == 8
    assert cases["test_a_block_in_flight_waits_for_other_lanes_too"] == 1


def test_the_digest_is_of_tests_with_their_code_and_needs() -> None:
    suite = inventory.take()
    assert suite.digest == inventory.take().digest
    (clause, tests), *_ = suite.tests.items()
    fewer = inventory.Inventory({**suite.tests, clause: tests[1:]}, suite.mutants)
    needier = attrs.evolve(tests[0], requires=("lose",))
    other = inventory.Inventory({**suite.tests, clause: (needier, *tests[1:])}, suite.mutants)
    assert len({suite.digest, fewer.digest, other.digest}) == 3


def test_each_clause_has_a_digest_of_its_own_tests() -> None:
    suite, catalogue = inventory.take(), load()
    digests = {clause.id: suite.digest_of(clause) for clause in catalogue}
    assert len(set(digests.values())) == len(catalogue)
    (test, *more) = suite.tests["ring.wraps"]
    other = inventory.Inventory(
        {**suite.tests, "ring.wraps": (attrs.evolve(test, code="other"), *more)}, suite.mutants
    )
    changed = [clause.id for clause in catalogue if other.digest_of(clause) != digests[clause.id]]
    assert changed == ["ring.wraps"]
    needier = attrs.evolve(catalogue["ring.stats"], requires=("lose",))
    assert suite.digest_of(needier) != digests["ring.stats"]
    reworded = attrs.evolve(catalogue["ring.stats"], text="The same in other words.")
    assert suite.digest_of(reworded) == digests["ring.stats"]
