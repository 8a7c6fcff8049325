"""Threads of lanes that do not start, and calls that are interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.errors import ForgeError
from forge3d_core.host.latch import Latch
from forge3d_core.host.machine import HostMachine

from ..interrupts import while_handling
from .conftest import PATIENCE


class Interrupt(BaseException):
    """What a signal's handler may raise anywhere."""


def test_a_lane_whose_thread_cannot_start_refuses_and_serves_later(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ForgeError, match="lane 'compute' needs a thread and none can start"):
            rig.call("compute", lambda: ran.append("refused"))
        with pytest.raises(ForgeError, match="lane 'compute' needs a thread and none can start"):
            while_handling(lambda: rig.call("compute", lambda: ran.append("refused")))
    rig.finish(rig.call("compute", lambda: ran.append("served")))
    assert ran == ["served"]


def test_a_machine_whose_threads_cannot_start_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = HostMachine()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ForgeError):
        machine.submit("compute", [], ())
    machine.close(PATIENCE)


@pytest.mark.parametrize("disguised", [False, True])
def test_a_thread_whose_start_was_interrupted_serves_nobody(
    rig: Any, monkeypatch: pytest.MonkeyPatch, disguised: bool
) -> None:
    """It runs, and nobody knows; the lane gets another, and must not have two."""
    start, started, ran = threading.Thread.start, [], []

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        started.append(thread)
        try:
            raise Interrupt
        finally:
            if disguised:  # as an interrupt within threading.Condition may be
                raise RuntimeError("release unlocked lock")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(Interrupt):
            rig.call("compute", lambda: ran.append("interrupted"))
    started[0].join(PATIENCE)
    assert not started[0].is_alive()
    rig.finish(rig.call("compute", lambda: ran.append("served")))
    assert ran == ["served"]


@pytest.mark.parametrize("selector", ["", "?seed=7"])
def test_a_submission_that_was_interrupted_does_nothing(
    make: Callable[[str], Any], selector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, ran = make(selector), list[str]()

    def interrupt(*_: object) -> None:
        raise Interrupt

    with monkeypatch.context() as patched:
        late = "_announce" if selector else "_entered"
        patched.setattr(type(rig.driver.machine._lanes), late, interrupt)
        with pytest.raises(Interrupt):
            rig.call("compute", lambda: ran.append("interrupted"))
    rig.finish(rig.call("compute", lambda: ran.append("served")))
    assert ran == ["served"]


def test_an_interrupted_wait_leaves_nothing_wanted(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_latch: Latch, _seconds: float) -> bool:
        raise Interrupt

    with rig.driver.hold("compute"):
        token = rig.call("compute", lambda: None)
        with monkeypatch.context() as patched:
            patched.setattr(Latch, "wait", interrupt)
            with pytest.raises(Interrupt):
                rig.driver.wait(token, PATIENCE)
    schedule = getattr(rig.driver.machine._lanes, "schedule", None)
    assert not getattr(schedule, "_wanted", [])
    rig.finish(token)
