"""A device's staging chunks: host-visible memory that transfers fill or empty, kept for the next."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable

from forge3d_core.driver import Direction, HostBlock
from forge3d_core.errors import BudgetError
from forge3d_core.memory.allocator import Allocation, Allocator, Owned
from forge3d_core.protocols import FencePoint, Timeline
from forge3d_core.timeline.points import known

MIN_BYTES = 64 * 1024
"""A smaller chunk costs more than it stages: then the ring's own blocks do."""

BUDGET_SHARE = 4
"""Chunks take up to this part of the budget's limit, and less where others need it."""

REST_SECONDS = 2.0
"""How long a chunk stays unused."""


class Chunk:
    """A block of staging memory. The thread that took it has it alone, until it is given back.

    ``point`` is the last submission that names it. One that is dropped instead goes back to the budget as
    soon as the device is done with it.
    """

    __slots__ = ("__weakref__", "allocation", "native", "nbytes", "owned", "point", "used")

    def __init__(self, owned: Owned) -> None:
        self.owned = owned
        self.allocation: Allocation = owned.allocation
        self.native: HostBlock = owned.allocation.native
        self.nbytes = self.native.nbytes
        self.point: FencePoint | None = None
        self.used = 0.0  # when it was given back

    @property
    def free(self) -> bool:
        """Whether the device is done with it."""
        return self.point is None or self.point.done

    @property
    def known_free(self) -> bool:
        """Whether it is known to be free, without asking the driver."""
        return self.point is None or known(self.point)


class Chunks:
    """The chunks of one device and direction that no transfer has.

    They count in the budget, which may have them back, and go back after a while without use.

    Thread-safety: any thread. The lock guards the deque; the driver is called outside it.
    """

    def __init__(self, allocator: Allocator, direction: Direction) -> None:
        self.direction: Direction = direction
        self._allocator = allocator
        self._lock = threading.RLock()
        self._idle: deque[Chunk] = deque()
        self._closed = False
        self._forget_reclaimer = allocator.budget.add_reclaimer(_reclaimer(self))

    @property
    def nbytes(self) -> int:
        """The bytes of what no transfer has."""
        with self._lock:
            return sum(chunk.nbytes for chunk in self._idle)

    @property
    def share(self) -> int:
        """How many bytes of the budget one transfer should take at most."""
        return self._allocator.budget.limit // BUDGET_SHARE

    def take(self, nbytes: int) -> Chunk | None:
        """Return a chunk of at least ``nbytes`` that is free, kept or new; None where the budget has no room.

        Waits for nothing. What others keep idle is not asked back for it: one that is dear goes first to
        :meth:`demand`.
        """
        chunk = self._kept(nbytes)
        if chunk is not None:
            return chunk
        try:
            size = _size(nbytes)
            self._allocator.budget.check(size)
            return self._new(size)
        except BudgetError:
            return None

    def demand(self, nbytes: int) -> Chunk | None:
        """Return a chunk of ``nbytes``, or a smaller one, even if others have to give up what they keep idle.

        None where the budget has no room for the smallest. Waits for nothing.
        """
        size = _size(nbytes)
        chunk = self._kept(nbytes)
        while chunk is None and size >= MIN_BYTES:
            try:
                chunk = self._new(size)
            except BudgetError:
                size //= 2
                chunk = self._kept(size)
        return chunk

    def give(self, chunk: Chunk) -> None:
        """Keep a chunk for the next transfer."""
        chunk.used = time.monotonic()
        with self._lock:
            if not self._closed:
                self._idle.append(chunk)

    def drop(self, chunks: Iterable[Chunk]) -> None:
        """Give chunks back to the budget, when the device is done with them: their transfer has failed."""
        for chunk in chunks:
            self._allocator.drop(chunk.owned)

    def rest(self) -> None:
        """Give back what has not been used for a while."""
        before = time.monotonic() - REST_SECONDS
        with self._lock:
            old = [chunk for chunk in self._idle if chunk.used <= before]
            for chunk in old:
                self._idle.remove(chunk)
        self._release(old)

    def reclaim(self, nbytes: int) -> int:
        """Give idle chunks back to the budget until ``nbytes`` are; return how many were."""
        given = 0
        kept: list[Chunk] = []
        while given < nbytes and (chunk := self._pop()) is not None:
            if chunk.free:
                given += chunk.nbytes
                self._release([chunk])
            else:
                kept.append(chunk)
        for chunk in kept:
            with self._lock:
                self._idle.append(chunk)
        return given

    def close(self) -> None:
        """Give everything back, at once or when the device is done with it; idempotent."""
        self._forget_reclaimer()
        with self._lock:
            self._closed = True
            idle, self._idle = list(self._idle), deque()
        self._release(idle)

    def _kept(self, nbytes: int) -> Chunk | None:
        """Return a free chunk of at least ``nbytes``: the one used last, or the one idle longest.

        Asks once for each lane that is busy.
        """
        busy: set[Timeline] = set()
        with self._lock:
            candidates = [chunk for chunk in self._idle if chunk.nbytes >= nbytes]
            if candidates and (newest := candidates[-1]).known_free:
                self._idle.remove(newest)
                return newest
        for chunk in candidates:
            if chunk.point is not None and chunk.point.timeline in busy:
                continue
            if not chunk.free:
                assert chunk.point is not None
                busy.add(chunk.point.timeline)
                continue
            with self._lock:
                if chunk in self._idle:  # else another thread was faster
                    self._idle.remove(chunk)
                    return chunk
        return None

    def _pop(self) -> Chunk | None:
        with self._lock:
            return self._idle.popleft() if self._idle else None

    def _new(self, nbytes: int) -> Chunk:
        return Chunk(self._allocator.block(nbytes, self.direction))

    def _release(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self._allocator.release(chunk.owned)


def _size(nbytes: int) -> int:
    """Round up to a power of two, so that chunks of one transfer serve the next."""
    return 1 << (nbytes - 1).bit_length()


def _reclaimer(chunks: Chunks) -> Callable[[int], int]:
    """Return a reclaimer that does not keep the chunks alive."""
    reference = weakref.ref(chunks)

    def reclaim(nbytes: int) -> int:
        alive = reference()
        return alive.reclaim(nbytes) if alive is not None else 0

    return reclaim
