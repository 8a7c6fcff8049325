"""An event that is set once and stays set."""

from __future__ import annotations

import contextlib
import threading

import attrs


@attrs.define(eq=False)
class Latch:
    """Lets waiting threads through once it is set.

    An interrupt may come anywhere in it and leaves nothing locked. In ``threading.Event`` it can leave the
    condition's lock taken, and the lane that sets the event next would wait for that for ever.

    Thread-safety: any thread. Every step on the list is atomic, and a waiter looks again once it is on it.
    """

    _open: bool = attrs.field(default=False, init=False)
    _waiters: list[threading.Lock] = attrs.field(factory=list, init=False)  # each taken until it may go

    def is_set(self) -> bool:
        return self._open

    def set(self) -> None:
        self._open = True
        with contextlib.suppress(IndexError):
            while True:
                self._waiters.pop().release()

    def wait(self, seconds: float) -> bool:
        """Return whether it is set, waiting up to ``seconds`` (at most ``threading.TIMEOUT_MAX``)."""
        if self._open:
            return True
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        if not self._open and not waiter.acquire(timeout=seconds):
            with contextlib.suppress(ValueError):  # it is being set this very moment
                self._waiters.remove(waiter)
        return self._open
