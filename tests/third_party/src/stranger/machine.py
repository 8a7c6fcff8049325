"""The native device: one thread that does what it is given, in order."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from forge3d_core.errors import Closed, DeviceLost


class Machine:
    """A queue and its thread, which starts with the first job. Jobs raise nothing.

    ``hold`` keeps jobs from starting until as many calls of ``let_go``; ``lose`` throws all of them away.
    """

    def __init__(self) -> None:
        self.lost: DeviceLost | None = None
        self.devices: weakref.WeakSet[Any] = weakref.WeakSet()
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._holds = 0
        self._busy = False
        self._ended = False
        self._thread: threading.Thread | None = None

    def put(self, job: Callable[[], None]) -> None:
        with self._changed:
            if self.lost is not None:
                raise DeviceLost(*self.lost.args)
            if self._ended:
                raise Closed("the machine has ended")
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="stranger", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def hold(self) -> None:
        with self._changed:
            self._holds += 1

    def let_go(self) -> None:
        with self._changed:
            self._holds -= 1
            self._changed.notify_all()

    def lose(self, why: str) -> None:
        with self._changed:
            self.lost = DeviceLost(f"the machine is lost: {why}; open another device")
            self._jobs.clear()
            self._changed.notify_all()
        for device in list(self.devices):
            device.lost(self.lost)

    def drain(self, seconds: float) -> bool:
        """Wait until nothing is queued or running; False when that took too long."""
        if threading.current_thread() is self._thread:
            return True  # closed by a callback: it cannot wait for itself
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._busy, seconds)

    def end(self) -> None:
        """End the thread; what is queued is dropped, what is running is not waited for long."""
        with self._changed:
            self._ended = True
            self._jobs.clear()
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._ended and (self._holds > 0 or not self._jobs):
                    self._changed.wait()
                if self._ended:
                    return
                job = self._jobs.popleft()
                self._busy = True
            job()
            del job  # or an idle thread keeps the last buffers alive
            with self._changed:
                self._busy = False
                self._changed.notify_all()
