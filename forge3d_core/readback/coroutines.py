"""Reads for coroutines: they wait for a block in a line, on their own loop, and use no thread for it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from forge3d_core.errors import StateError
from forge3d_core.protocols import FencePoint
from forge3d_core.readback.backpressure import Backpressure, complete, fail_if_lost
from forge3d_core.readback.handle import Handle
from forge3d_core.readback.state import Full, Land, Slot
from forge3d_core.timeline.points import forget


async def acquire(pressure: Backpressure, handles: Sequence[Handle], nbytes: int) -> Slot | None:
    """Return the block that is lent under the policy; None means to read without the pool's blocks.

    Cancelled, it leaves its place to the next.
    """
    slot = None if pressure.blocks.line.places else await _try_acquire(pressure, handles, nbytes)
    if slot is None and pressure.must_wait():
        return await _wait(pressure, handles, nbytes)
    return slot


async def _try_acquire(pressure: Backpressure, handles: Sequence[Handle], nbytes: int) -> Slot | None:
    """Return the block that is lent, if one can be freed by moving out the bytes of complete reads."""
    looked = False
    while not isinstance(answer := pressure.blocks.claim(handles, nbytes), Slot):
        match answer:
            case Land(slot):
                for read in complete(slot):
                    await read.land_async()
            case Full() if looked:
                return None
            case Full():
                pressure.blocks.collect()
                looked = True
    return answer


async def _wait(pressure: Backpressure, handles: Sequence[Handle], nbytes: int) -> Slot:
    """Wait in line until a block is lent."""
    deadline, line = pressure.deadline(), pressure.blocks.line
    watched: FencePoint | None = None

    def settled(_point: FencePoint, _error: Exception | None) -> None:
        with line.lock:
            line.call()

    with line.place() as place:
        try:
            while True:
                first = line.first(place)
                if (first or line.stands_still()) and (
                    slot := await _try_acquire(pressure, handles, nbytes)
                ) is not None:
                    return slot
                oldest = pressure.oldest()
                if not deadline.left():
                    raise pressure.late(oldest)
                if oldest is not None and (point := oldest.point) is not None:
                    if point.timeline.failure is not None and not point.done:
                        fail_if_lost(oldest)
                        point.wait(0)  # raises it
                    if first and point is not watched:
                        watched = point
                        with contextlib.suppress(StateError):  # no thread can start that would call: look
                            point.on_done(settled)
                await place.wait(deadline.left(line.look_seconds(first=first)))
        finally:
            if watched is not None:
                forget(watched, settled)
