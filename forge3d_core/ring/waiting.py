"""Threads and coroutines that wait at a staging ring, and what they must not wait for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

from forge3d_core.concurrency.loops import Bell, bell
from forge3d_core.errors import FenceTimeout, SliceOutstanding
from forge3d_core.protocols import FencePoint
from forge3d_core.ring.block import Block

LOOK_SECONDS = 0.05
"""How often a wait for another thread's slice looks up, for a loss or a close that nothing announced."""


STILL_SECONDS = 0.5
"""A loop that takes so long to come to a coroutine that was called stands still."""


class Turn:
    """The ticket of one coroutine. ``called`` is when it was called, None since it looked; under the lock."""

    __slots__ = ("_bell", "called")

    def __init__(self) -> None:
        self._bell: Bell = bell()
        self.called: float | None = None

    def call(self) -> bool:
        """Have the coroutine look again; under the lock, from any thread. False once its loop has closed."""
        if self.called is None:
            self.called = time.monotonic()
        return self._bell.ring()

    async def wait(self, seconds: float) -> None:
        """Wait until called, for up to ``seconds``."""
        await self._bell.wait(seconds)
        self.called = None

    @property
    def still(self) -> bool:
        """Whether its loop stands still."""
        return self.called is not None and time.monotonic() - self.called > STILL_SECONDS


class Waiting:
    """The ring's lock, and the threads and coroutines that wait there: for room, first come, first served,
    or for slices.

    Who changes what they wait for wakes them, if there are any: ``line`` has those that wait for room, in
    order, ``asleep`` those that sleep. Enter ``lock``, never a condition (record 20).
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.line: deque[object] = deque()
        self.asleep: set[object] = set()
        self.changed = threading.Condition(self.lock)

    def wake(self) -> None:
        """Have all that wait look again; of the coroutines in the line, the first: that calls the next."""
        with self.lock:
            self.changed.notify_all()
            while self.line and isinstance(first := self.line[0], Turn) and not first.call():
                self.line.popleft()  # or it would keep its task, and what that holds
            for one in tuple(self.asleep):
                if isinstance(one, Turn) and not one.call():
                    self.asleep.discard(one)

    def pass_over(self) -> None:
        """Have a coroutine whose loop stands still go to the end of the line; under the lock."""
        while self.line and isinstance(first := self.line[0], Turn):
            if first.call():
                if first.still:
                    self.line.rotate(-1)
                break
            self.line.popleft()

    def sleep(self, seconds: float) -> None:
        """Sleep until woken; the caller has the lock, which is free meanwhile, and looks again."""
        me = object()
        try:
            self.asleep.add(me)
            self.changed.wait(seconds)
        finally:
            self.asleep.discard(me)


def wait_point(point: FencePoint, seconds: float) -> None:
    """Wait for a point for so long; the caller looks at its own deadline."""
    try:
        point.wait(seconds)
    except FenceTimeout:
        pass


def refuse_own(what: str, blocks: Iterable[Block], *, waited: bool = False) -> None:
    """Refuse to wait for slices that no other thread can commit: that would never end."""
    mine = [lent for block in blocks for lent in block.outstanding.copy() if lent.here(waited)]
    if mine:
        mine.sort(key=lambda lent: (lent.block, lent.offset))
        raise SliceOutstanding(
            f"{what}: {len(mine)} slice(s) of this thread are neither committed nor released, the first "
            f"{mine[0]}, and waiting for them would never end; commit or release them first"
        )
