"""The latch of a submission: everybody through once it is set, whatever came between."""

from __future__ import annotations

import threading

import pytest

from forge3d_core.host import latch as module
from forge3d_core.host.latch import Latch

PATIENCE = 20.0


class Interrupt(BaseException):
    """What a signal's handler may raise anywhere."""


def test_it_is_set_once_and_stays_set() -> None:
    latch = Latch()
    assert not latch.open
    assert not latch.wait(0.0)
    assert not latch.wait(0.001)
    latch.set()
    latch.set()
    assert latch.open
    assert latch.wait(0.0)


def test_everybody_is_let_through() -> None:
    latch, ready, through = Latch(), threading.Semaphore(0), threading.Semaphore(0)

    def wait() -> None:
        ready.release()
        assert latch.wait(PATIENCE)
        through.release()

    threads = [threading.Thread(target=wait) for _ in range(8)]
    for thread in threads:
        thread.start()
        ready.acquire()
    latch.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert through.acquire(blocking=False)


def test_who_gave_up_waiting_is_forgotten() -> None:
    latch = Latch()
    for _ in range(100):
        assert not latch.wait(0.0)
    assert latch._waiters == []


def test_an_interrupted_wait_keeps_nobody_from_setting_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In ``threading.Event`` an interrupt here would leave the condition's lock taken."""
    latch, lock = Latch(), threading.Lock

    class Interrupting:
        """A lock whose second ``acquire``, the one that waits, is interrupted."""

        def __init__(self) -> None:
            self.lock = lock()
            self.release = self.lock.release

        def acquire(self, timeout: float = -1) -> bool:
            if self.lock.locked():
                raise Interrupt
            return self.lock.acquire()

    with monkeypatch.context() as patched:
        patched.setattr(module.threading, "Lock", Interrupting)
        with pytest.raises(Interrupt):
            latch.wait(PATIENCE)
    latch.set()
    assert latch.wait(0.0)
