"""A driver that raises what is no error of forge3d's: the lane fails, and everybody who waits hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from forge3d_core.errors import DriverError, ForgeError
from forge3d_core.timeline.timeline import Timeline

from .signals import Signals, Token, submit


class Broken(Signals):
    """Raises ``error`` out of the named call."""

    def __init__(self, call: str, error: BaseException) -> None:
        super().__init__()
        self.broken, self.raised = call, error

    def _meet(self, call: str) -> None:
        if call == self.broken:
            raise self.raised

    def query(self, token: Token) -> bool:
        self._meet("query")
        return super().query(token)

    def wait(self, token: Token, seconds: float) -> bool:
        self._meet("wait")
        return super().wait(token, seconds)

    def retire(self, token: Token) -> None:
        self._meet("retire")
        super().retire(token)


def has_failed(timeline: Timeline, error: BaseException) -> None:
    assert isinstance(timeline.failure, DriverError)
    assert timeline.failure.__cause__ is error
    for _ in range(2):
        with pytest.raises(DriverError, match=r"TypeError: not forge3d's; .*open the device again") as caught:
            timeline.point(9).wait(0)
        assert caught.value.__cause__ is error
        assert "in _meet" in "".join(traceback.format_exception(caught.value))  # the driver's own traceback


@pytest.mark.parametrize("call", ["query", "wait"])
def test_everybody_who_waits_hears_of_it(call: str, background: Callable[..., Any], patience: float) -> None:
    error = TypeError("not forge3d's")
    timeline = Timeline("lane", Broken(call, error))
    told: list[Exception | None] = []
    over = threading.Event()

    async def awaited() -> None:
        await timeline.point(1)

    timeline.point(1).on_done(lambda _point, failure: (told.append(failure), over.set()))
    waiting = [background(timeline.point(1).wait), background(lambda: asyncio.run(awaited()))]
    submit(timeline)
    for one in waiting:
        assert isinstance(one.exception(patience), DriverError)
    assert over.wait(patience)
    assert isinstance(told[0], DriverError)
    has_failed(timeline, error)
    assert not timeline.point(1).done
    assert timeline.completed == 0
    told.clear()
    timeline.point(1).on_done(lambda _point, failure: told.append(failure))
    assert isinstance(told[0], DriverError)


def test_what_was_complete_when_a_token_could_not_be_retired_stays_complete() -> None:
    error = TypeError("not forge3d's")
    timeline = Timeline("lane", Broken("retire", error))
    tokens = submit(timeline, 3)
    for token in tokens[:2]:
        token.finish()
    assert timeline.completed == 2
    timeline.point(2).wait(0)
    has_failed(timeline, error)


def test_a_submission_that_it_breaks_fails_the_lane(timeline: Timeline, patience: float) -> None:
    (earlier,) = submit(timeline)
    error = TypeError("not forge3d's")

    def _meet() -> None:
        raise error

    with pytest.raises(DriverError) as caught:
        timeline.enqueue(_meet)
    assert caught.value.__cause__ is error
    assert timeline.submitted == 1
    earlier.finish()
    has_failed(timeline, error)


def test_a_submission_that_is_refused_fails_nothing(timeline: Timeline) -> None:
    def refuse() -> None:
        raise ForgeError("too many commands")

    with pytest.raises(ForgeError, match="too many"):
        timeline.enqueue(refuse)
    assert timeline.failure is None


def test_a_look_at_the_device_that_breaks_fails_the_lane(signals: Signals) -> None:
    error = TypeError("not forge3d's")

    def _meet() -> None:
        raise error

    timeline = Timeline("lane", signals, check_device=_meet)
    with pytest.raises(DriverError):
        timeline.point(1).wait(5)
    has_failed(timeline, error)


def test_a_driver_that_exits_ends_no_watcher(patience: float) -> None:
    """On a thread of ours nothing but the driver can mean to exit."""
    timeline = Timeline("lane", Broken("query", SystemExit(3)))
    over = threading.Event()
    told: list[Exception | None] = []
    for value in (1, 2):
        timeline.point(value).on_done(
            lambda point, failure: (told.append(failure), point.value == 2 and over.set())
        )
    submit(timeline)
    assert over.wait(patience)
    assert [type(failure) for failure in told] == [DriverError, DriverError]


class Watchdog(Exception):
    """What a program's signal handler raises."""


@contextlib.contextmanager
def handler(handle: Callable[..., None]) -> Iterator[None]:
    earlier = signal.signal(signal.SIGUSR1, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, earlier)


class Bound:
    def handle(self, *_: object) -> None:
        raise Watchdog("too slow")


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs a signal of the user's own")
@pytest.mark.parametrize("call", ["query", "wait", "retire"])
def test_what_a_signal_handler_raises_interrupts_the_call_alone(
    call: str, timeline: Timeline, signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    (token,) = submit(timeline)
    if call == "retire":
        token.finish()
    real = getattr(Signals, call)

    def interrupted(self: Signals, *args: Any) -> Any:
        signal.raise_signal(signal.SIGUSR1)
        return real(self, *args)

    with monkeypatch.context() as patch, handler(Bound().handle):
        patch.setattr(Signals, call, interrupted)
        with pytest.raises(Watchdog):
            timeline.point(1).wait(5)
    assert timeline.failure is None
    token.finish()
    timeline.point(1).wait(5)


class Local:
    """What only a function that has returned knew."""


def test_it_keeps_nobodys_frames(timeline: Timeline) -> None:
    (token,) = submit(timeline)

    def meet() -> weakref.ref[Local]:
        local = Local()
        try:
            raise TypeError("not forge3d's")
        except TypeError as error:
            token.finish(error)
        with pytest.raises(DriverError):
            timeline.point(1).wait(5)
        return weakref.ref(local)

    kept = meet()
    assert kept() is None
    assert "test_foreign.py" in timeline.failure.__notes__[0]
