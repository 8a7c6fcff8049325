"""Reads for coroutines: they wait for a block in a line, on their own loop, and use no thread for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Protocol

from forge3d_core.deadline import Deadline
from forge3d_core.errors import FenceTimeout, StateError
from forge3d_core.protocols import FencePoint
from forge3d_core.readback.blocks import Promise
from forge3d_core.readback.handle import Handle, Operation
from forge3d_core.readback.line import Line
from forge3d_core.readback.region import Region
from forge3d_core.timeline.points import forget

FIRST_LOOKS_SECONDS = 0.05
"""How often the first in line looks by itself: for a lease or a handle that was dropped, for a loss."""

OTHERS_LOOK_SECONDS = 1.0
"""How often the others do, in case the loop of the first stands still."""


class AsyncHost(Protocol):
    """What reads for coroutines need of their pool."""

    line: Line

    def collect(self) -> None: ...

    def claim(self, promise: Promise, nbytes: int) -> tuple[bool, Operation | None]: ...

    def start(self, region: Region, promise: Promise, after: Iterable[FencePoint]) -> Handle: ...

    def let_go(self, promise: Promise) -> None: ...

    def must_wait(self) -> bool: ...

    def deadline(self) -> Deadline: ...

    def oldest(self) -> Operation | None: ...

    def late(self, oldest: Operation | None) -> FenceTimeout: ...

    async def alone_async(self, region: Region, after: Iterable[FencePoint]) -> Handle: ...


async def read(pool: AsyncHost, region: Region, after: Iterable[FencePoint]) -> Handle:
    """Start a read of ``region`` once a block is free. Cancelled, it leaves its place to the next."""
    promise = Promise()
    try:
        if not (not pool.line and await _claimed(pool, promise, region.block_bytes)):
            if not pool.must_wait():
                return await pool.alone_async(region, after)
            await _wait(pool, promise, region.block_bytes)
        return pool.start(region, promise, after)
    except BaseException:
        promise.block = None
        raise
    finally:
        pool.let_go(promise)


async def _claimed(pool: AsyncHost, promise: Promise, nbytes: int) -> bool:
    """Promise a block if one is free, or once the bytes of complete reads have been moved out."""
    pool.collect()
    while True:
        claimed, oldest = pool.claim(promise, nbytes)
        if claimed:
            return True
        if oldest is None:
            return False
        await oldest.land_async()


async def _wait(pool: AsyncHost, promise: Promise, nbytes: int) -> None:
    """Wait in line until a block is promised."""
    deadline = pool.deadline()
    watched: FencePoint | None = None

    def settled(_point: FencePoint, _error: Exception | None) -> None:
        with pool.line.lock:
            pool.line.call()

    with pool.line.place() as place:
        try:
            while True:
                first = pool.line.first(place)
                if (first or pool.line.stands_still()) and await _claimed(pool, promise, nbytes):
                    return
                oldest = pool.oldest()
                if not deadline.left():
                    raise pool.late(oldest)
                if oldest is not None and oldest.fail_if_lost():
                    oldest.point.wait(0)  # raises it
                if oldest is not None and first and oldest.point is not watched:
                    watched = oldest.point
                    with contextlib.suppress(StateError):  # no thread can start that would call: look, then
                        watched.on_done(settled)
                await place.wait(deadline.left(FIRST_LOOKS_SECONDS if first else OTHERS_LOOK_SECONDS))
        finally:
            if watched is not None:
                forget(watched, settled)
