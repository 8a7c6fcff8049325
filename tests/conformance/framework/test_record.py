"""From tests to clauses and mutants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from forge3d_conformance.catalogue import load
from forge3d_conformance.mutants import Layer, Mutant
from forge3d_conformance.record import Record, clause_result, mutant_result
from forge3d_conformance.report import ClauseResult, Outcome, State
from forge3d_conformance.subject import KnownFailure

CLAUSE = load()["fence.truth"]
MUTANT = Mutant("fence.liar", "fence.truth", re.compile("memory does not show"), Layer)


def record(test: str, ending: Any, text: str | None = None, mutant: str | None = None) -> Record:
    if ending == "fail":
        return Record("fence.truth", test, ending, mutant=mutant, message=text)
    return Record("fence.truth", test, ending, mutant=mutant, reason=text)


def known(because: str) -> tuple[KnownFailure, ...]:
    return (KnownFailure("*", *map(re.compile, ("host", "numpy", because)), "the driver leaks"),)


def conclude(
    records: list[Record], declared: Sequence[KnownFailure] = (), expected: Sequence[str] = ("a", "b")
) -> ClauseResult:
    return clause_result(CLAUSE, expected, records, known=declared, key="host", repro="again")


PASS_A, PASS_B = record("a", "pass"), record("b", "pass")
FAIL_B = record("b", "fail", "ClauseViolation: no")
UNSUPPORTED_B = record("b", "unsupported", "no textures")
STARVED_B = attrs.evolve(UNSUPPORTED_B, reason="needs hold", lacking=("hold",))
DOUBT_B = record("b", "inconclusive", "could not be held")


@pytest.mark.parametrize(
    ("records", "because", "wanted"),
    [
        ([PASS_A, PASS_B], None, State.PASS),
        ([PASS_A, FAIL_B], None, State.FAIL),
        ([PASS_A], None, State.NOT_RUN),
        ([], None, State.NOT_RUN),
        ([FAIL_B], None, State.FAIL),
        ([PASS_A, UNSUPPORTED_B], None, State.PASS),
        ([record("a", "unsupported", "no hold"), UNSUPPORTED_B], None, State.UNSUPPORTED),
        ([PASS_A, attrs.evolve(UNSUPPORTED_B, lacking=("textures",))], None, State.PASS),
        ([PASS_A, STARVED_B], None, State.NOT_RUN),
        ([PASS_A, STARVED_B], "Violation: no", State.NOT_RUN),
        ([PASS_A, DOUBT_B], None, State.INCONCLUSIVE),
        ([PASS_A, FAIL_B], "Violation: no", State.KNOWN_FAILURE),
        ([PASS_A, FAIL_B], "another", State.FAIL),
        ([record("a", "fail", "TypeError: oops"), FAIL_B], "Violation: no", State.FAIL),
        ([PASS_A, PASS_B], "Violation: no", State.UNEXPECTED_PASS),
        ([PASS_A], "Violation: no", State.NOT_RUN),
    ],
)
def test_the_state_of_a_clause(records: list[Record], because: str | None, wanted: State) -> None:
    assert conclude(records, known(because) if because else ()).state is wanted


def test_a_failure_of_another_kind_than_the_known_one_says_so() -> None:
    result = conclude([PASS_A, FAIL_B], known("another"))
    assert "'another', which is declared" in (result.message or "")
    assert result.reason is None


def test_what_was_tried_again_says_why() -> None:
    slow = attrs.evolve(PASS_B, retries=("Tardy: late", "Inconclusive: lapsed"))
    assert conclude([PASS_A, slow]).retries == {"b": ("Tardy: late", "Inconclusive: lapsed")}


def test_a_failure_carries_its_message_and_how_to_repeat_it() -> None:
    result = conclude([PASS_A, FAIL_B])
    assert result.message == "b: ClauseViolation: no"
    assert result.repro == "again"


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ([record("a", "fail", "ClauseViolation: memory does not show it", "fence.liar")], Outcome.KILLED),
        ([record("a", "fail", "TypeError: memory", "fence.liar")], Outcome.SURVIVED),
        ([record("a", "pass", None, "fence.liar")], Outcome.SURVIVED),
        ([record("a", "inconclusive", "held too short", "fence.liar")], Outcome.SURVIVED),
        ([record("a", "unsupported", "no hold", "fence.liar")], Outcome.NOT_APPLICABLE),
        ([], Outcome.NOT_RUN),
        (
            [
                record("a", "pass", None, "fence.liar"),
                record("b", "fail", "ClauseViolation: memory does not show it", "fence.liar"),
            ],
            Outcome.KILLED,
        ),
    ],
)
def test_the_outcome_of_a_mutant(records: list[Record], wanted: Outcome) -> None:
    expected = [record.test for record in records] or ["a"]
    assert mutant_result(MUTANT, expected, records).outcome is wanted


@pytest.mark.parametrize("ending", ["pass", "unsupported"])
def test_a_mutant_that_a_test_never_met_was_not_run(ending: str) -> None:
    result = mutant_result(MUTANT, ["a", "b"], [record("a", ending, "no hold", "fence.liar")])
    assert result.outcome is Outcome.NOT_RUN
    assert result.reason == "1 of the 2 tests of its clause did not run on it"


def test_a_mutant_that_fails_for_another_reason_says_which() -> None:
    result = mutant_result(MUTANT, ["a"], [record("a", "fail", "TypeError: oops", "fence.liar")])
    assert result.reason is not None
    assert "TypeError: oops" in result.reason
