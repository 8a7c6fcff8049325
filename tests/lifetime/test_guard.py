"""The gate: nobody is inside a driver while it closes."""

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
        assert gate.shut(0), f"chance {interrupter.number} left somebody inside"


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
