"""Threads that wait at a staging ring, and what they must not wait for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from forge3d_core.errors import FenceTimeout, SliceOutstanding
from forge3d_core.protocols import FencePoint
from forge3d_core.ring.block import Block

LOOK_SECONDS = 0.05
"""How often a wait for another thread's slice looks up, for a loss or a close that nothing announced."""


class Waiting:
    """The ring's lock, and the threads that wait there: for room, first come, first served, or for slices.

    Who changes what they wait for wakes them, if there are any: ``line`` has those that wait for room, in
    order, ``asleep`` those that sleep. Enter ``lock``, never a condition: its own enter is Python, which
    an interrupt may leave half way.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.line: deque[object] = deque()
        self.asleep: set[object] = set()
        self.changed = threading.Condition(self.lock)

    def wake(self) -> None:
        """Have all that wait look again."""
        with self.lock:
            self.changed.notify_all()

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
