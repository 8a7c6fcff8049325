"""Drivers whose device was closed while it worked: kept, with its memory, until they can go."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import threading
from collections.abc import Iterable

import attrs

from forge3d_core.driver import Driver

_log = logging.getLogger(__name__)


@attrs.frozen(eq=False)
class Leftover:
    """A driver that has not closed yet, and the memory that its work may still use."""

    driver: Driver
    memory: tuple[object, ...]
    process: int = attrs.field(factory=os.getpid, init=False)
    closing: threading.Lock = attrs.field(factory=threading.Lock, init=False)  # held while its device closes

    def gone(self) -> bool:
        """Whether it has closed by now."""
        if self.closing.locked() or self.process != os.getpid():  # a forked child: it is the parent's
            return False
        try:
            return self.driver.close(0.0) is not False
        except Exception:  # whoever opens or closes another device is not to blame
            _log.exception("closing %r, whose device was closed while it worked, failed", self.driver)
            return True


_left: list[Leftover] = []
_looking = threading.Lock()


def end(driver: Driver, timeout: float, memory: Iterable[object] = ()) -> None:
    """Close a driver. One that says "not yet" or is interrupted is asked again by the next open or close.

    ``memory`` is what its work may still use, kept until then: in a process that opens and closes nothing
    any more, until it ends. Raises what the driver raises, which has then closed as far as it can.
    Thread-safety: any thread; once for each driver.
    """
    leftover = Leftover(driver, tuple(memory))
    with leftover.closing:
        _left.append(leftover)  # first, as an interrupt may come at any moment
        try:
            if driver.close(timeout) is not False:
                _left.remove(leftover)
        except Exception:
            _left.remove(leftover)
            raise
    clear_up()


def clear_up() -> None:
    """Close the drivers that were left and have come to their end; waits for none. Any thread."""
    if not _left or _looking.locked():  # who holds it is doing this
        return
    with _looking:
        for leftover in tuple(_left):
            if leftover.gone():
                _left.remove(leftover)


@atexit.register
def _keep() -> None:
    """The interpreter ends, and destroys what it finds: what is left here could wait for its work."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_left))
