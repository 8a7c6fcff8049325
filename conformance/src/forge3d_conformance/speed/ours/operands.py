"""What the operations are done with: made once before they are timed, and given back after it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import attrs

from forge3d_conformance.speed.contestant import Runner
from forge3d_core.protocols import AsyncReadbackConfig, Buffer, Device, Kernel, ReadbackPool, StagingRing

SMALL = 4096


@attrs.frozen(eq=False)
class Operands:
    """Makes buffers, rings and pools that ``stack`` closes. ``shared`` is kept from runner to runner."""

    device: Device
    kernel: Kernel
    stack: ExitStack
    shared: dict[str, Any]

    def buffer(self, nbytes: int = SMALL) -> Buffer:
        buffer = self.device.create_buffer(nbytes)
        self.stack.callback(buffer.close)
        return buffer

    def ring(self, ring_count: int = 3, buffer_size: int | None = None) -> StagingRing:
        """Return a ring, one with default settings where no size is given."""
        if buffer_size is None:
            return self.stack.enter_context(self.device.staging_ring(ring_count=ring_count))
        ring = self.device.staging_ring(ring_count=ring_count, buffer_size=buffer_size)
        return self.stack.enter_context(ring)

    def pool(self, pending: int | None = None, buffer_size: int = SMALL) -> ReadbackPool:
        """Return a pool, one with default settings where ``pending`` is not given."""
        if pending is None:
            return self.stack.enter_context(self.device.readback_pool())
        config = AsyncReadbackConfig(max_pending_ops=pending, buffer_size=buffer_size)
        return self.stack.enter_context(self.device.readback_pool(config))

    def idle(self) -> None:
        self.device.wait_idle()


Maker = Callable[[Operands, int], Runner]
"""Makes the runner of one operation on so many bytes."""
