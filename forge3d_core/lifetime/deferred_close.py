"""What is left of a device that was closed while it worked: its driver and memory, until they can go."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import threading
import weakref
from collections.abc import Callable
from functools import partial

import attrs

_log = logging.getLogger(__name__)

MAX_FAILURES = 2
"""After so many the driver is not asked again: whether its work still runs is not known."""

_left: list[DeferredClose] = []
_open: set[weakref.ref[object]] = set()


@attrs.define(eq=False)
class DeferredClose:
    """A driver that is to be closed, and what its work may use, kept until it has closed.

    ``close`` takes a timeout and says False for "not yet". Then it is asked again when a device is opened or
    closed, or finds no memory left; a process that does nothing of the kind any more keeps it until it ends.

    Thread-safety: any thread. One at a time asks.
    """

    name: str
    close: Callable[[float], bool | None]
    memory: list[object] = attrs.field(factory=list)
    ended: bool = attrs.field(default=False, init=False)  # by its device: from now on others ask
    _failures: int = attrs.field(default=0, init=False)
    _process: int = attrs.field(factory=os.getpid, init=False)
    _asking: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @property
    def note(self) -> Callable[[], None]:
        """What keeps it from now on. C code: an interrupt comes before it or after it."""
        return partial(_left.append, self)

    def end(self, timeout: float) -> bool | None:
        """Close, now or later, and return what ``close`` said. What an error cuts short is left for later."""
        if self not in _left:
            self.note()
        try:
            return self._ask(timeout)
        finally:
            self.ended = True

    def try_close(self) -> bool:
        """Close if it can be closed now and no other thread is about to; whether it has. Raises nothing."""
        if not self.ended or self._asking.locked() or self._process != os.getpid():
            return False  # in a forked child it is the parent's
        try:
            return self._ask(0.0) is not False
        except Exception:  # it is no fault of the caller, which opens or closes another device
            self._failures += 1
            self.ended = self._failures < MAX_FAILURES
            _log.exception("closing %s failed; until it succeeds, what its work uses stays", self.name)
            return False

    def _ask(self, timeout: float) -> bool | None:
        with self._asking:
            if self not in _left:
                return True  # another thread has closed it
            answer = self.close(timeout)
            if answer is not False:
                self.memory.clear()
                _left.remove(self)
            return answer


def close_deferred() -> bool:
    """Close what was left and has come to its end; whether anything has. Waits for no device. Any thread."""
    closed = [leftover for leftover in tuple(_left) if leftover.try_close()]
    return bool(closed)


def keep_at_exit(device: object) -> None:
    """Have the interpreter end with ``device`` as it is: destroying its parts could wait for its work."""
    _open.add(weakref.ref(device, _open.discard))


@atexit.register
def _keep() -> None:
    """Give all of it one reference that is never dropped; the interpreter destroys the rest as it ends."""
    for kept in (_left, *(device() for device in _open.copy())):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
