"""An allocation: native memory, its owner, and the submissions that use it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
import numpy as np

from forge3d_core.driver import Direction
from forge3d_core.lifetime.hold import Users
from forge3d_core.protocols import FencePoint, Reservation


@attrs.define(eq=False)
class Allocation:
    """Native memory, its reservation, and the submissions that use it.

    ``write`` is the last submission that wrote it, ``reads`` the last of each lane that read it since:
    what a later submission on another lane has to wait for, and what must be over before it is freed.
    ``holds`` knows every loan of the memory: numpy arrays may not outlive what they show.
    ``stale`` knows what Python still reaches of loans that have ended, by a variable or by an alias.
    ``pins`` knows the holders of commands that name it and are not submitted yet.
    ``uploaded`` is the last upload of floats, and their dtype; it holds as long as it is the last write.
    ``freed`` is set before the driver is asked to let go; ``resting`` says that it could not, yet.
    """

    native: Any
    reservation: Reservation | None
    write: FencePoint | None = None
    reads: tuple[FencePoint, ...] = ()
    holds: Users = attrs.field(factory=set)
    stale: Users = attrs.field(factory=set)
    pins: Users = attrs.field(factory=set)
    owned: bool = True  # False for adopted memory, which is the caller's
    direction: Direction | None = None  # of a host block
    uploaded: tuple[FencePoint, np.dtype[Any]] | None = None
    freed: bool = False
    resting: bool = False
    free: Callable[[Any], object] | None = None  # of what goes back by another call than the driver's free

    def dependencies(self, lane: str, *, writes: bool) -> list[FencePoint]:
        """Return the points of other lanes that a submission on ``lane`` comes after."""
        points = self.uses() if writes else () if self.write is None else (self.write,)
        return [point for point in points if point.timeline.name != lane]

    @property
    def reachable(self) -> bool:
        """Whether Python reaches the memory: then it is not given back, and not used for anything else."""
        return bool(self.holds or self.stale)

    def uses(self) -> tuple[FencePoint, ...]:
        """Return the points after which nothing uses it any more; after a failed one that is not known."""
        return self.reads if self.write is None else (self.write, *self.reads)


class Owned:
    """The ownership of an allocation, kept by what took it; when it is gone, the memory goes back.

    So no owner needs a finalizer, and memory that an interrupted call was taking is not lost.
    """

    __slots__ = ("__weakref__", "allocation")

    def __init__(self, allocation: Allocation) -> None:
        self.allocation = allocation


def note_uses(point: FencePoint, reads: Iterable[Allocation], writes: Iterable[Allocation]) -> None:
    """Note a submission with those that it reads and writes; the caller serializes submissions."""
    timeline = point.timeline
    for allocation in reads:
        earlier = allocation.reads
        if earlier and (len(earlier) > 1 or earlier[0].timeline is not timeline):
            allocation.reads = (*_of_other_lanes(earlier, point), point)
        else:
            allocation.reads = (point,)
    for allocation in writes:
        allocation.write = point
        allocation.reads = ()


def _of_other_lanes(points: tuple[FencePoint, ...], point: FencePoint) -> list[FencePoint]:
    return [other for other in points if other.timeline is not point.timeline]
