"""From tests to clauses and mutants."""

from __future__ import annotations

import re
from typing import Any

import pytest

from forge3d_conformance.catalogue import load
from forge3d_conformance.mutants import Layer, Mutant
from forge3d_conformance.record import Record, clause_result, mutant_result
from forge3d_conformance.report import Outcome, State

CLAUSE = load()["fence.truth"]
MUTANT = Mutant("fence.liar", "fence.truth", re.compile("memory does not show"), Layer)


def record(test: str, ending: Any, text: str | None = None, mutant: str | None = None) -> Record:
    if ending == "fail":
        return Record("fence.truth", test, ending, mutant=mutant, message=text)
    return Record("fence.truth", test, ending, mutant=mutant, reason=text)


def state(records: list[Record], expected: tuple[str, ...] = ("a", "b"), known: str | None = None) -> State:
    return clause_result(CLAUSE, expected, records, known=known, key="host", repro="again").state


PASS_A, PASS_B = record("a", "pass"), record("b", "pass")
FAIL_B = record("b", "fail", "ClauseViolation: no")
UNSUPPORTED_B = record("b", "unsupported", "no textures")
DOUBT_B = record("b", "inconclusive", "could not be held")


@pytest.mark.parametrize(
    ("records", "known", "wanted"),
    [
        ([PASS_A, PASS_B], None, State.PASS),
        ([PASS_A, FAIL_B], None, State.FAIL),
        ([PASS_A], None, State.NOT_RUN),
        ([], None, State.NOT_RUN),
        ([FAIL_B], None, State.FAIL),
        ([PASS_A, UNSUPPORTED_B], None, State.PASS),
        ([record("a", "unsupported", "no hold"), UNSUPPORTED_B], None, State.UNSUPPORTED),
        ([PASS_A, DOUBT_B], None, State.INCONCLUSIVE),
        ([PASS_A, FAIL_B], "the driver leaks", State.KNOWN_FAILURE),
        ([PASS_A, PASS_B], "the driver leaks", State.UNEXPECTED_PASS),
        ([PASS_A], "the driver leaks", State.NOT_RUN),
    ],
)
def test_the_state_of_a_clause(records: list[Record], known: str | None, wanted: State) -> None:
    assert state(records, known=known) is wanted


def test_a_failure_carries_its_message_and_how_to_repeat_it() -> None:
    result = clause_result(CLAUSE, ["a", "b"], [PASS_A, FAIL_B], known=None, key="host", repro="again")
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
        ([], Outcome.NOT_APPLICABLE),
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
    assert mutant_result(MUTANT, records).outcome is wanted


def test_a_mutant_that_fails_for_another_reason_says_which() -> None:
    result = mutant_result(MUTANT, [record("a", "fail", "TypeError: oops", "fence.liar")])
    assert result.reason is not None
    assert "TypeError: oops" in result.reason
