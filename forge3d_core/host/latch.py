"""An event that is set once and stays set."""

from __future__ import annotations

import contextlib
import threading

import attrs


@attrs.define(eq=False)
class Latch:
    """Lets waiting threads through once it is ``open``; :meth:`set` opens it, for good.

    Not ``threading.Event``: here every step is a single C call (record 20).

    Thread-safety: any thread. A waiter looks again once it is on the list.
    """

    open: bool = attrs.field(default=False, init=False)
    _waiters: list[threading.Lock] = attrs.field(factory=list, init=False)  # each taken until it may go

    def set(self) -> None:
        self.open = True
        with contextlib.suppress(IndexError):
            while self._waiters:
                self._waiters.pop().release()

    def wait(self, seconds: float) -> bool:
        """Return whether it is open, waiting up to ``seconds`` (at most ``threading.TIMEOUT_MAX``)."""
        if self.open:
            return True
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        if not self.open and not waiter.acquire(timeout=seconds):
            with contextlib.suppress(ValueError):  # it is being set this very moment
                self._waiters.remove(waiter)
        return self.open
