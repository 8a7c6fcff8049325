"""Pools whose reads show, or write, where other bytes belong."""

from __future__ import annotations

from collections import deque
from typing import Any

from numpy.typing import NDArray

from forge3d_conformance.mutants.landing import Altered, Noted
from forge3d_conformance.mutants.readback_region import flat, like
from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer


@mutant("readback.tail-of-the-last", breaks="readback.no-stale-bytes", because="other bytes than its own")
class TailOfTheLast(Altered):
    """The last byte of a short read is what a longer read before it left in the block."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        data, before = flat(array), getattr(handle.pool, "before", None)
        handle.pool.before = flat(array)
        if before is not None and before.size > data.size > 0:
            data[-1] = before[data.size - 1]
        return like(data, array)


@mutant(
    "readback.given-up-writes-on",
    breaks="readback.no-stale-bytes",
    because="other bytes than its own|given up",
)
class GivenUpWritesOn(Altered):
    """The block of a cancelled read is used again while the device still writes it."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        ghost, handle.pool.ghost = getattr(handle.pool, "ghost", None), None
        data = flat(array)
        if ghost is not None:
            late = flat(ghost.wait(5))[: data.size]
            data[: late.size] = late
        return like(data, array)

    class Handle(Altered.Handle):
        def cancel(self) -> None:
            self.pool.ghost = self.target


@mutant("readback.closed-writes-on", breaks="readback.no-stale-bytes", because="after a pool was closed")
class ClosedWritesOn(Noted):
    """The blocks of a pool that is closed go to the next ring while the device still writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.in_flight: deque[Any] = deque()  # points of closed pools' reads, each with a block of its own

    class Pool(Noted.Pool):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.reads: deque[Any] = deque(maxlen=target.config.max_pending_ops)

        def read(self, source: Any, **region: Any) -> Any:
            handle = super().read(source, **region)
            self.reads.append(handle.target.point)
            return handle

        def close(self) -> None:
            layer: Any = self.layer
            layer.in_flight.extend(point for point in self.reads if not point.done)
            self.target.close()

    class Ring(Layer.Ring):
        def allocate(self, nbytes: int) -> Any:
            layer: Any = self.layer
            slot = self.real.allocate(nbytes)
            if slot is not None and layer.in_flight:
                slot.written_at = layer.in_flight.popleft()
            return slot

    class Slice(Layer.Slice):
        written_at: Any = None

        @property
        def view(self) -> NDArray[Any]:
            view: NDArray[Any] = self.target.view
            if self.written_at is not None and self.written_at.done:
                view[:] = 1  # what was read
            return view
