"""Waiting by asking again: the system's own lateness is put aside for the sleeps, and put back."""

from __future__ import annotations

import itertools
import sys
import time

import pytest

from forge3d_core.concurrency import polling
from forge3d_core.concurrency.polling import LONGEST_SLEEP, MIN_WAITED, PRECISE_NANOSECONDS, poll_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the slack of timers is Linux's")


def slack() -> int:
    return int(polling._prctl(polling._PR_GET_TIMERSLACK, 0, 0, 0, 0))


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes the slack of each sleep and passes its time at once."""
    slacks: list[int] = []
    now = itertools.count(step=0.001)
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(time, "sleep", lambda _seconds: slacks.append(slack()))
    return slacks


def test_a_wait_that_sleeps_sleeps_precisely_and_leaves_the_thread_as_it_was(asleep: list[int]) -> None:
    before, answers = slack(), iter([False] * 4 + [True])
    assert before != PRECISE_NANOSECONDS
    assert poll_until(lambda: next(answers), 1.0)
    assert set(asleep) == {PRECISE_NANOSECONDS}
    assert slack() == before


def test_so_does_one_that_raises(asleep: list[int]) -> None:
    def query() -> bool:
        if asleep:
            raise KeyError("lost")
        return False

    before = slack()
    with pytest.raises(KeyError):
        poll_until(query, 1.0)
    assert slack() == before


@pytest.mark.parametrize("precision", [16, 64])
@pytest.mark.parametrize("tick", [0.0001, 0.001])
def test_it_sleeps_for_a_part_of_the_time_waited(
    asleep: list[int], monkeypatch: pytest.MonkeyPatch, precision: int, tick: float
) -> None:
    slept: list[float] = []
    clock = itertools.count(step=tick)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(time, "sleep", slept.append)
    assert poll_until(lambda: len(slept) == 90, 1.0, precision=precision)
    waited = [max(tick * (2 + i), MIN_WAITED) for i in range(90)]
    assert slept == pytest.approx([min(waited_so_far / precision, LONGEST_SLEEP) for waited_so_far in waited])


def test_time_that_has_passed_is_asked_once_more(asleep: list[int]) -> None:
    asked = itertools.count()
    assert not poll_until(lambda: next(asked) > 1, 0.0)
    assert next(asked) == 2


def test_elsewhere_it_sleeps_as_the_system_does(asleep: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    before = slack()
    monkeypatch.setattr(sys, "platform", "darwin")
    answers = iter([False] * 4 + [True])
    assert poll_until(lambda: next(answers), 1.0)
    assert set(asleep) == {before}
