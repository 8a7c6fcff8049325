"""What a pool keeps for later: buffers by size, ready ones and those that the device may still use."""

from __future__ import annotations

from collections import deque

import attrs

from forge3d_core.errors import Closed
from forge3d_core.protocols import Buffer, FencePoint, RecyclableBuffer


@attrs.frozen(eq=False)
class Idle:
    """A buffer that was given back, when, and the points after which it is free."""

    buffer: Buffer
    nbytes: int
    since: float
    after: tuple[FencePoint, ...] = ()

    def free(self) -> Idle | None:
        """Return it as a buffer that only the pool knows, if nothing uses it any more; else None.

        Elsewhere than on the core's devices it stays the buffer that it was. Raises :class:`Closed` where its
        holder has closed it.
        """
        if self.buffer.closed:
            raise Closed("closed by its holder")
        if isinstance(self.buffer, RecyclableBuffer):
            fresh = self.buffer.recycle()
            return None if fresh is None else attrs.evolve(self, buffer=fresh)
        return self if all(point.done for point in self.after) else None


@attrs.define(eq=False)
class Shelf:
    """The idle buffers of a pool, of one size each class; the caller has the pool's lock.

    ``returned`` are those whose use may not be over, oldest first; ``ready`` those whose use is, newest last.
    A buffer that is still in use stands in the way of none: all of ``returned`` are looked at before one is
    made. The newest that is ready goes out first, so what is not needed grows old and is trimmed.
    """

    returned: dict[int, deque[Idle]] = attrs.field(factory=dict, init=False)
    ready: dict[int, deque[Idle]] = attrs.field(factory=dict, init=False)
    nbytes: int = attrs.field(default=0, init=False)
    count: int = attrs.field(default=0, init=False)

    def put(self, idle: Idle, *, ready: bool = False) -> None:
        """Take a buffer in."""
        (self.ready if ready else self.returned).setdefault(idle.nbytes, deque()).append(idle)
        self.nbytes += idle.nbytes
        self.count += 1

    def take_ready(self, nbytes: int) -> Idle | None:
        """Take out the newest of a size that is ready."""
        return self._out(self.ready, nbytes, -1)

    def has_ready(self, nbytes: int) -> bool:
        """Whether one of a size is ready."""
        return nbytes in self.ready

    def take_returned(self, nbytes: int) -> Idle | None:
        """Take out the oldest of a size whose use may not be over."""
        return self._out(self.returned, nbytes, 0)

    def put_back(self, idles: list[Idle]) -> None:
        """Take in again, before all others, what came from ``take_returned`` in this order."""
        for idle in reversed(idles):
            self.returned.setdefault(idle.nbytes, deque()).appendleft(idle)
            self.nbytes += idle.nbytes
            self.count += 1

    def take_oldest(self, before: float) -> Idle | None:
        """Take out the one that has been here longest, if that is since before ``before``."""
        found: tuple[float, dict[int, deque[Idle]], int] | None = None
        for place in (self.ready, self.returned):
            for nbytes, idles in place.items():
                if idles[0].since < before and (found is None or idles[0].since < found[0]):
                    found = idles[0].since, place, nbytes
        return None if found is None else self._out(found[1], found[2], 0)

    def _out(self, place: dict[int, deque[Idle]], nbytes: int, end: int) -> Idle | None:
        idles = place.get(nbytes)
        if not idles:
            return None
        idle = idles.pop() if end else idles.popleft()
        if not idles:
            del place[nbytes]
        self.nbytes -= idle.nbytes
        self.count -= 1
        return idle
