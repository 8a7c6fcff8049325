"""The score of driver mutants stands beside that of the others, and is not theirs."""

from __future__ import annotations

from forge3d_conformance.report import Outcome, scores

FOUND = [
    ("ring.never-wraps", Outcome.KILLED),
    ("ring.asleep", Outcome.SURVIVED),
    ("driver.fill-tail-1", Outcome.KILLED),
    ("driver.copy-phase", Outcome.NOT_APPLICABLE),
    ("driver.list-of-16", Outcome.KILLED),
]


def test_each_family_is_counted_apart() -> None:
    assert [str(score) for score in scores(FOUND)] == [
        "1 of 2 mutants killed, 1 survived",
        "2 of 2 driver mutants killed, 1 not applicable",
    ]


def test_without_a_self_test_there_is_no_score() -> None:
    assert scores([]) == ()
