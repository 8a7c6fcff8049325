"""The guard: no thread is inside a driver while it closes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.errors import Closed
from forge3d_core.lifetime import guard as module
from forge3d_core.lifetime.guard import CallGuard

from ..interrupts import interrupters


def test_shutting_waits_for_who_is_inside(background: Callable[..., Any], patience: float) -> None:
    gate, inside, leave = CallGuard(), threading.Event(), threading.Event()

    def call() -> str:
        with gate.passing():
            inside.set()
            assert leave.wait(patience)
            return "out"

    calling = background(call)
    assert inside.wait(patience)
    shutting = background(gate.shut)
    assert not shutting.done()
    leave.set()
    shutting.result(patience)
    assert calling.result(patience) == "out"


def test_nobody_gets_in_afterwards() -> None:
    gate = CallGuard()
    gate.shut()
    gate.shut()
    with pytest.raises(Closed), gate.passing():
        raise AssertionError("was let in")


def test_a_call_that_fails_is_out_again() -> None:
    gate = CallGuard()
    with pytest.raises(ZeroDivisionError), gate.passing(), gate.passing():
        raise ZeroDivisionError
    gate.shut()


def test_an_interrupt_leaves_nobody_inside() -> None:
    """Wherever it comes: on the way in, inside, or on the way out."""

    def pass_through(gate: CallGuard) -> None:
        with gate.passing():
            pass

    for interrupter in interrupters(module, threading, contextlib):
        gate = CallGuard()
        interrupter.run(lambda gate=gate: pass_through(gate))
        assert gate.shut(0), f"chance {interrupter.number} left a thread inside"


def test_shutting_gives_up_on_who_never_comes_out(background: Callable[..., Any], patience: float) -> None:
    gate, inside, leave = CallGuard(), threading.Event(), threading.Event()

    def call() -> None:
        with gate.passing():
            inside.set()
            assert leave.wait(patience)

    calling = background(call)
    assert inside.wait(patience)
    assert not gate.shut(0.001)
    with pytest.raises(Closed), gate.passing():
        raise AssertionError("was let in")
    leave.set()
    calling.result(patience)
    assert gate.shut(0)


def test_a_thread_has_one_lock_and_enters_again_with_another(background: Callable[..., Any]) -> None:
    gate = CallGuard()
    mine = gate.here()
    assert gate.here() is mine
    with mine:
        inner = gate.here()  # as a finalizer would, on the same thread
        assert inner is not mine
        with inner:
            assert not gate.shut(0)
        assert not gate.shut(0)
    assert gate.shut(0)
    assert background(gate.here).result(20) is not mine


def test_shutting_waits_for_each_kind_of_call(background: Callable[..., Any], patience: float) -> None:
    for enter in (CallGuard.here, CallGuard.lock, CallGuard.passing):
        gate, inside, leave = CallGuard(), threading.Event(), threading.Event()

        def call(
            gate: CallGuard = gate, enter: Any = enter, inside: Any = inside, leave: Any = leave
        ) -> None:
            with enter(gate):
                gate.check()
                inside.set()
                assert leave.wait(patience)

        calling = background(call)
        assert inside.wait(patience)
        assert not gate.shut(0)
        with gate.here(), pytest.raises(Closed):
            gate.check()
        leave.set()
        calling.result(patience)
        assert gate.shut(patience)


def test_threads_that_ended_leave_nothing(background: Callable[..., Any], patience: float) -> None:
    gate = CallGuard()

    def enter() -> None:
        with gate.here():
            pass

    for _ in range(20):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(patience)
    assert not gate._locks


def test_an_interrupt_leaves_no_thread_inside() -> None:
    def enter(gate: CallGuard) -> None:
        with gate.here():
            gate.check()

    for interrupter in interrupters(module, threading):
        gate = CallGuard()
        interrupter.run(lambda gate=gate: enter(gate))
        assert gate.shut(0), f"chance {interrupter.number} left a thread inside"
