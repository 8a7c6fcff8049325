"""A timeline that fails: the first failure sticks, and everybody learns of it."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.errors import Closed, DeviceLost, KernelError
from forge3d_core.timeline.timeline import Timeline

from .signals import Signals, Token, submit


def test_the_first_failure_sticks_and_what_was_complete_stays(timeline: Timeline, patience: float) -> None:
    first, second, third = submit(timeline, 3)
    told: list[Exception | None] = []
    over = threading.Event()
    for value in (1, 2, 3, 8):
        timeline.point(value).on_done(
            lambda point, error: (told.append(error), point.value == 8 and over.set())
        )
    first.finish()
    second.finish(KernelError("division by zero"))
    third.finish()
    assert over.wait(patience)
    assert [type(error) for error in told] == [type(None), KernelError, KernelError, KernelError]
    assert timeline.completed == 1
    timeline.point(1).wait(0)
    assert timeline.point(1).done
    for value in (2, 3, 8):
        assert not timeline.point(value).done
        for _ in range(2):
            with pytest.raises(KernelError, match="division"):
                timeline.point(value).wait()
    with pytest.raises(KernelError):
        timeline.enqueue(Token)
    late: list[Exception | None] = []
    timeline.point(3).on_done(lambda _point, error: late.append(error))
    assert isinstance(late[0], KernelError)
    timeline.fail(DeviceLost("later"))
    assert isinstance(timeline.failure, KernelError)


def test_completion_after_a_failure_changes_nothing_and_asks_no_driver(
    timeline: Timeline, signals: Signals
) -> None:
    """A device that closes fails its lanes, then lets their work end and takes the driver away."""
    (token,) = submit(timeline)
    timeline.fail(Closed("the device was closed"))
    token.finish()
    signals.calls.clear()
    assert not timeline.point(1).done
    assert timeline.completed == 0
    with pytest.raises(Closed):
        timeline.point(1).wait(0)
    assert not signals.calls


def test_a_failure_is_told_to_the_owner_once(signals: Signals) -> None:
    told: list[Exception] = []
    timeline = Timeline("compute", signals, told.append)
    (token,) = submit(timeline)
    token.finish(DeviceLost("gone"))
    for _ in range(3):
        assert not timeline.point(1).done
    assert [type(error) for error in told] == [DeviceLost]


class Local:
    """What only a function that has returned knew."""


def failed_with_a_cause() -> KernelError:
    try:
        try:
            1 // 0  # noqa: B018
        except ZeroDivisionError as error:
            raise KernelError("bad") from error
    except KernelError as error:
        return error


@pytest.mark.parametrize("learn", ["wait", "done"])
def test_a_failure_keeps_nobodys_frames(timeline: Timeline, patience: float, learn: str) -> None:
    """A driver may raise one error again and again; whoever met it first must not live on in it."""
    (token,) = submit(timeline)
    point = timeline.point(1)

    def meet() -> weakref.ref[Local]:
        local = Local()
        token.finish(failed_with_a_cause())
        with contextlib.suppress(KernelError):
            if learn == "done":
                assert not point.done
            else:
                point.wait(patience)
        return weakref.ref(local)

    assert meet()() is None
    failure = timeline.failure
    assert isinstance(failure, KernelError)
    assert isinstance(failure.__cause__, ZeroDivisionError)
    assert failure.__traceback__ is failure.__cause__.__traceback__ is None
    with pytest.raises(KernelError, match="bad"):
        point.wait()


def test_a_failure_wakes_every_waiter_with_an_error_of_its_own(
    timeline: Timeline,
    background: Callable[..., Any],
    until: Callable[..., None],
    signals: Signals,
    patience: float,
) -> None:
    (token,) = submit(timeline)
    waiters = [background(timeline.point(value).wait) for value in (1, 1, 2, 7)]
    until(lambda: signals.calls.count("wait") + len(timeline._sleepers) >= 4)
    timeline.fail(Closed("the device was closed"))
    errors = [waiter.exception(patience) for waiter in waiters]
    assert {type(error) for error in errors} == {Closed}
    assert len({id(error) for error in errors}) == len(errors)
    token.finish()
