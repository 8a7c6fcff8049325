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
_left: list[Leftover] = []
_open: set[weakref.ref[object]] = set()


@attrs.define(eq=False)
class Leftover:
    """A driver that is to be closed, and what its work may use, kept until it has closed.

    ``close`` takes a timeout and says False for "not yet". Then whoever opens or closes a device asks again,
    so a process that does neither any more keeps the memory until it ends.

    Thread-safety: any thread. One at a time asks.
    """

    name: str
    close: Callable[[float], bool | None]
    memory: list[object] = attrs.field(factory=list)
    ended: bool = attrs.field(default=False, init=False)  # by its device: from now on others ask
    _process: int = attrs.field(factory=os.getpid, init=False)
    _asking: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @property
    def note(self) -> Callable[[], None]:
        """What keeps it from now on. C code: an interrupt comes before it or after it."""
        return partial(_left.append, self)

    def end(self, timeout: float) -> bool:
        """Close, now or later; whether it has closed. An error or an interrupt leaves it for later, too."""
        if self not in _left:
            self.note()
        try:
            return self._ask(timeout)
        finally:
            self.ended = True

    def look(self) -> bool:
        """Close if it can be closed now and nobody else is about to; whether it has. Raises nothing."""
        if not self.ended or self._asking.locked() or self._process != os.getpid():
            return False  # in a forked child it is the parent's
        try:
            return self._ask(0.0)
        except Exception:  # whoever opens or closes another device is not to blame
            self.ended = False  # its work may still run, for all that anybody knows
            _log.exception("%s cannot be closed, and keeps what it uses until the process ends", self.name)
            return False

    def _ask(self, timeout: float) -> bool:
        with self._asking:
            if self in _left:  # else another thread has closed it
                if self.close(timeout) is False:
                    return False
                self.memory.clear()
                _left.remove(self)
            return True


def clear_up() -> bool:
    """Close what was left and has come to its end; whether anything has. Waits for no device. Any thread."""
    closed = [leftover for leftover in tuple(_left) if leftover.look()]
    return bool(closed)


def keep_at_exit(device: object) -> None:
    """Have the interpreter end with ``device`` as it is: destroying its parts could wait for its work."""
    _open.add(weakref.ref(device, _open.discard))


@atexit.register
def _keep() -> None:
    """Give everything one reference that nobody drops; the interpreter destroys the rest on its way out."""
    for kept in (_left, *(device() for device in tuple(_open))):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
