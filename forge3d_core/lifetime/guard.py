"""The way into a driver: open to any thread until the device closes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import attrs

from forge3d_core.deadline import Deadline
from forge3d_core.errors import Closed

SHUT_SECONDS = 10.0
"""How long shutting waits for who is inside; no call takes so long, and one that does never ends."""

LOOK_SECONDS = 0.001


class GuardedCall:
    """One call inside, for ``with``.

    An interrupt may come between any two steps of Python code, so leaving is none: ``__exit__`` is a
    slot, filled with a lock's, which is C. However the block ends, the passage is over.
    """

    __slots__ = ("__exit__", "_admit", "_inside")

    __exit__: Callable[..., None]

    def __init__(self, admit: Callable[[threading.Lock], None]) -> None:
        self._admit = admit
        self._inside = threading.Lock()
        self.__exit__ = self._inside.__exit__

    def __enter__(self) -> None:
        self._inside.acquire()
        try:
            self._admit(self._inside)
        except BaseException:
            self._inside.release()
            raise


@attrs.define(eq=False)
class CallGuard:
    """Lets calls in until it is shut, and tells whoever shuts it when the last of them is out.

    Any thread may be inside a driver, or copying to memory that it mapped, when another closes the
    device; native code does not survive that. What is inside must not wait for the device.
    """

    _passages: list[threading.Lock] = attrs.field(factory=list, init=False)  # held while somebody is inside
    _shut: bool = attrs.field(default=False, init=False)
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)

    def passing(self) -> GuardedCall:
        """Be inside for a ``with`` block, which raises :class:`Closed` once the gate is shut."""
        return GuardedCall(self._admit)

    def shut(self, timeout: float = SHUT_SECONDS) -> bool:
        """Let nobody in any more, and wait until everybody is out; whether they are. Idempotent."""
        with self._lock:
            self._shut = True
        deadline = Deadline.after(timeout)
        while any(passage.locked() for passage in self._passages):
            if not deadline.left():
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def _admit(self, passage: threading.Lock) -> None:
        with self._lock:
            if self._shut:
                raise Closed("the device was closed")
            self._passages = [*(other for other in self._passages if other.locked()), passage]
