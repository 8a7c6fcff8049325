"""Callbacks: once, in order of value, and under nobody's lock."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import KernelError, StateError
from forge3d_core.timeline.timeline import Timeline

from ..interrupts import while_handling
from .signals import Token, submit


def test_callbacks_come_once_and_in_order_of_value(timeline: Timeline, patience: float) -> None:
    tokens = submit(timeline, 3)
    told: list[tuple[int, Exception | None]] = []
    over = threading.Event()
    for value in (3, 1, 2, 1):
        timeline.point(value).on_done(lambda point, error: told.append((point.value, error)))
    timeline.point(4).on_done(lambda *_: over.set())
    for token in tokens:
        token.finish()
    timeline.enqueue(Token)
    timeline._pending[-1][1].finish()
    assert over.wait(patience)
    assert sorted(told) == [(1, None), (1, None), (2, None), (3, None)]


def test_a_callback_runs_under_nobodys_lock(
    timeline: Timeline, background: Callable[..., Any], patience: float
) -> None:
    """Who polls may hold a lock that the callback wants: it must not be the poller who calls back."""
    (token,) = submit(timeline)
    lock, told = threading.Lock(), threading.Event()

    def settle(_point: object, _error: object) -> None:
        with lock:
            told.set()

    timeline.point(1).on_done(settle)
    token.finish()

    def poll_inside() -> bool:
        with lock:
            return timeline.point(1).done

    assert background(poll_inside).result(patience)
    assert told.wait(patience)


def test_a_callback_that_raises_spares_the_others(
    timeline: Timeline, patience: float, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_point: object, _error: object) -> None:
        raise RuntimeError("somebody's mistake")

    (first, second) = submit(timeline, 2)
    told, later = threading.Event(), threading.Event()
    timeline.point(1).on_done(fail)
    timeline.point(1).on_done(lambda *_: told.set())
    timeline.point(2).on_done(lambda *_: later.set())
    first.finish()
    assert told.wait(patience)
    second.finish()
    assert later.wait(patience)
    assert "somebody's mistake" in caplog.text


def test_a_callback_that_would_end_its_thread_spares_the_others(
    timeline: Timeline, patience: float, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = submit(timeline, 2)
    later = threading.Event()
    timeline.point(1).on_done(lambda *_: sys.exit(3))
    timeline.point(2).on_done(lambda *_: later.set())
    first.finish()
    second.finish()
    assert later.wait(patience)
    assert "SystemExit: 3" in caplog.text


def test_a_watcher_that_died_is_replaced(timeline: Timeline, patience: float) -> None:
    (token,) = submit(timeline)
    timeline.point(1).on_done(lambda *_: None)
    dead = threading.Thread(target=lambda: None)
    dead.start()
    dead.join()
    timeline._watcher._thread = dead
    told = threading.Event()
    timeline.point(1).on_done(lambda *_: told.set())
    token.finish()
    assert told.wait(patience)


def test_where_no_thread_starts_a_callback_is_refused(
    timeline: Timeline, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    (token,) = submit(timeline)
    told: list[str] = []
    over = threading.Event()

    def refused() -> None:
        timeline.point(1).on_done(lambda *_: told.append("refused"))

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for ask in (refused, lambda: while_handling(refused)):
            with pytest.raises(StateError, match=r"'compute'.*can't start new thread"):
                ask()
    timeline.point(1).on_done(lambda *_: told.append("taken"))
    timeline.point(1).on_done(lambda *_: over.set())
    token.finish()
    assert over.wait(patience)
    assert told == ["taken"]


def test_a_callback_taken_back_is_not_called(timeline: Timeline, patience: float) -> None:
    (token,) = submit(timeline)
    told: list[int] = []
    over = threading.Event()

    def settle(point: Any, _error: object) -> None:
        told.append(point.value)

    def other(point: Any, _error: object) -> None:
        told.append(-point.value)

    for value in (1, 2, 1):
        timeline.point(value).on_done(settle)
    for value in (2, 1):
        timeline.point(value).on_done(other)
    timeline.forget(settle)
    timeline.forget(settle)
    timeline.point(2).on_done(lambda *_: over.set())
    token.finish()
    timeline.enqueue(Token)
    timeline._pending[-1][1].finish()
    assert over.wait(patience)
    assert told == [-1, -2]


def test_each_callback_gets_an_error_of_its_own(timeline: Timeline, patience: float) -> None:
    errors: list[Exception | None] = []
    over = threading.Event()
    for _ in range(2):
        timeline.point(1).on_done(lambda _point, error: errors.append(error))
    timeline.point(2).on_done(lambda *_: over.set())
    timeline.fail(KernelError("bad"))
    assert over.wait(patience)
    timeline.point(1).on_done(lambda _point, error: errors.append(error))
    assert {type(error) for error in errors} == {KernelError}
    assert len({id(error) for error in [*errors, timeline.failure]}) == 4


def test_one_watcher_serves_callback_after_callback(timeline: Timeline, patience: float) -> None:
    threads = set()
    for value in range(1, 6):
        (token,) = submit(timeline)
        told = threading.Event()

        def settle(_point: object, _error: object, told: threading.Event = told) -> None:
            threads.add(threading.current_thread())
            told.set()

        timeline.point(value).on_done(settle)
        token.finish()
        assert told.wait(patience)
    assert len(threads) == 1


def test_a_callback_of_a_settled_point_that_raises_is_not_its_callers_error(
    device: AssembledDevice, caplog: pytest.LogCaptureFixture
) -> None:
    point = device.submit(device.command_list())
    point.wait()

    def fails(_point: object, _error: object) -> None:
        raise LookupError("its own fault")

    point.on_done(fails)
    assert "its own fault" in caplog.text
