"""The way into a driver: open to any thread until the device closes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from forge3d_core.deadline import Deadline
from forge3d_core.errors import Closed
from forge3d_core.lifetime.hold import Users, note

SHUT_SECONDS = 10.0
"""How long shutting waits for the calls inside; no call takes so long, and one that does never ends."""

LOOK_SECONDS = 0.001


class CallGuard:
    """Lets calls in until it is shut; shutting waits until the last of them is out.

    Any thread may be inside a driver, or copying to memory that it mapped, when another closes the
    device; native code does not survive that. A thread is inside while it holds a lock of the guard's, and
    goes on only if the guard is open then::

        with guard.here():
            guard.check()

    A thread sets its lock before it reads ``closed``, and ``shut`` sets ``closed`` before it reads the
    locks, so of the two one sees the other. What is inside must not wait for the device.
    """

    __slots__ = ("_locks", "_mine", "closed")

    def __init__(self) -> None:
        self.closed = False
        self._locks: Users = set()
        self._mine = threading.local()

    def here(self) -> threading.Lock:
        """Return the calling thread's lock, or another if it is inside already, as in a finalizer."""
        try:
            mine: threading.Lock = self._mine.lock
        except AttributeError:
            mine = self._mine.lock = self.lock()
        return self.lock() if mine.locked() else mine

    def lock(self) -> threading.Lock:
        """Return a new lock; the thread that holds it is inside."""
        lock = threading.Lock()
        note(self._locks, lock)
        return lock

    def check(self) -> None:
        """Raise :class:`Closed` once the guard is shut."""
        if self.closed:
            raise Closed("the device was closed")

    def passing(self) -> GuardedCall:
        """Be inside for a ``with`` block, which raises :class:`Closed` once the guard is shut."""
        return GuardedCall(self)

    def admit(self, lock: threading.Lock) -> None:
        """Count the holder of ``lock`` as inside, or raise :class:`Closed`."""
        note(self._locks, lock)
        self.check()

    def shut(self, timeout: float = SHUT_SECONDS) -> bool:
        """Let no call in any more, and wait until all are out; whether they are. Idempotent."""
        self.closed = True
        deadline = Deadline.after(timeout)
        while self._occupied():
            if not deadline.left():
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def _occupied(self) -> bool:
        locks = [reference() for reference in self._locks.copy()]
        return any(lock is not None and lock.locked() for lock in locks)


class GuardedCall:
    """One call inside, for ``with``; ``__exit__`` is a slot with a lock's own, so that leaving is C code."""

    __slots__ = ("__exit__", "_guard", "_lock")

    __exit__: Callable[..., None]

    def __init__(self, guard: CallGuard) -> None:
        self._guard = guard
        self._lock = threading.Lock()
        self.__exit__ = self._lock.__exit__

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self._guard.admit(self._lock)
        except BaseException:
            self._lock.release()
            raise
