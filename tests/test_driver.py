"""What the core does for drivers: a thread starts, or the caller learns why it did not."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from forge3d_core.driver import start_thread

from .interrupts import while_handling


class Interrupt(BaseException):
    """What a signal's handler may raise anywhere."""


def plainly(call: Callable[[], object]) -> None:
    call()


def refuse(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def interrupt(_thread: threading.Thread) -> None:
    raise Interrupt


def interrupt_in_disguise(_thread: threading.Thread) -> None:
    try:
        raise Interrupt
    finally:  # as threading.Condition does
        raise RuntimeError("release unlocked lock")


callers = pytest.mark.parametrize("calling", [plainly, while_handling])


@callers
def test_a_thread_that_starts_runs(calling: Callable[..., None]) -> None:
    ran = threading.Event()
    calling(lambda: start_thread(threading.Thread(target=ran.set)))
    assert ran.wait(20)


@callers
def test_a_refusal_is_told(monkeypatch: pytest.MonkeyPatch, calling: Callable[..., None]) -> None:
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        calling(lambda: start_thread(threading.Thread()))


@callers
@pytest.mark.parametrize("start", [interrupt, interrupt_in_disguise])
def test_an_interrupt_comes_as_itself_in_the_context_of_its_caller(
    monkeypatch: pytest.MonkeyPatch, calling: Callable[..., None], start: Callable[..., None]
) -> None:
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(Interrupt) as caught:
        calling(lambda: start_thread(threading.Thread()))
    assert type(caught.value.__context__) is (KeyError if calling is while_handling else type(None))


def test_an_interrupt_that_is_forgotten_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It and the frame that took its disguise off must not keep each other, and with them the caller's."""
    monkeypatch.setattr(threading.Thread, "start", interrupt_in_disguise)
    threads: list[weakref.ref[threading.Thread]] = []

    def interrupted() -> None:
        thread = threading.Thread()
        threads.append(weakref.ref(thread))
        start_thread(thread)

    gc.disable()
    try:
        with pytest.raises(Interrupt):
            interrupted()
        assert threads[0]() is None
    finally:
        gc.enable()
