"""What would end a test without failing it is a violation."""

from __future__ import annotations

import unittest
from collections.abc import Callable

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.errors import DidNotReproduce, UnsatisfiedAssumption

from forge3d_conformance.control import controlled
from forge3d_conformance.violation import ClauseViolation

WAYS: dict[str, BaseException] = {
    "skip": pytest.skip.Exception("not here"),
    "xfail": pytest.xfail.Exception("known"),
    "exit": pytest.exit.Exception("enough"),
    "unittest": unittest.SkipTest("not here"),
    "reject": UnsatisfiedAssumption(),
    "reproduced": DidNotReproduce("completed successfully"),
    "interrupt": KeyboardInterrupt(),
    "system exit": SystemExit(0),
    "in a group": BaseExceptionGroup("several", [ValueError(), SystemExit(0)]),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_ends_a_test_without_failing_it_is_a_violation(way: str) -> None:
    with pytest.raises(ClauseViolation, match="without failing it"), controlled(replay=False):
        raise WAYS[way]


def test_other_errors_and_a_replay_are_left_alone() -> None:
    with pytest.raises(ValueError, match="mine"), controlled(replay=False):
        raise ValueError("mine")
    with pytest.raises(DidNotReproduce), controlled(replay=True):
        raise DidNotReproduce("completed successfully")


def drawn(reject: Callable[[int], bool]) -> None:
    @hypothesis.settings(database=None, max_examples=60, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.seed(1)
    @hypothesis.given(st.integers(0, 1000))
    def test(number: int) -> None:
        if reject(number):
            hypothesis.reject()

    test()


def test_rejected_examples_are_counted() -> None:
    with controlled(replay=False):
        drawn(lambda number: number == 7)
    with pytest.raises(ClauseViolation, match="examples were rejected"), controlled(replay=False):
        drawn(lambda number: number % 4 > 0)


def test_what_hypothesis_cannot_draw_is_no_rejection_of_the_backend() -> None:
    @hypothesis.settings(database=None, max_examples=60, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.seed(1)
    @hypothesis.given(st.data())
    def test(data: st.DataObject) -> None:
        data.draw(st.integers(0, 99).filter(lambda number: number % 6 == 0))

    with controlled(replay=False):
        test()
