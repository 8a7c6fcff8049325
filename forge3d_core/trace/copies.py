"""Host copies of the process, for all traces that are under way."""

from __future__ import annotations

import threading
from typing import Any

from forge3d_core.forking import renew_in_child
from forge3d_core.trace.events import HostCopy, Thread, now
from forge3d_core.trace.log import Log
from forge3d_core.transfer.moving import MOVER


class Copies:
    """Stands in for the process's mover while there is a log.

    Thread-safety: any thread. The lock guards coming and going; copies do not take it.
    """

    def __init__(self) -> None:
        self._logs: tuple[Log, ...] = ()
        self._plain = MOVER.copy
        renew_in_child(self)
        self.renew()

    def renew(self) -> None:
        """Take a lock of its own in a forked child: another thread may have held the parent's."""
        self._lock = threading.RLock()

    def add(self, log: Log) -> None:
        with self._lock:
            if not self._logs:
                self._plain = MOVER.copy
            self._logs = (*self._logs, log)
            MOVER.copy = self._copy

    def remove(self, log: Log) -> None:
        """Tell ``log`` no more; idempotent."""
        with self._lock:
            had, self._logs = self._logs, tuple(one for one in self._logs if one is not log)
            if had and not self._logs:
                MOVER.copy = self._plain

    def _copy(self, target: Any, source: Any) -> None:
        begun = now()
        self._plain(target, source)
        copy = HostCopy(Thread.current(), begun, now(), int(target.nbytes))
        for log in {id(log): log for log in self._logs}.values():  # one log may be of several devices
            log.copies.add(copy)


COPIES = Copies()
"""The one of this process."""
