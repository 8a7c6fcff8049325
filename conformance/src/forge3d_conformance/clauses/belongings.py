"""One of everything that a device makes, and what may be called on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import numpy as np

from forge3d_conformance.bench import Bench
from forge3d_core.protocols import (
    Buffer,
    CommandList,
    Device,
    FencePoint,
    Kernel,
    ReadbackPool,
    ReadbackStream,
    StagingRing,
    StagingSlice,
    Texture,
)

Calls = dict[str, Callable[[], object]]

BYTES = 256

NEVER = 10**6
"""More submissions than any test makes."""


@attrs.frozen(eq=False)
class DeviceObjects:
    """What one device has made; nothing of it is in flight."""

    device: Device
    buffer: Buffer
    other: Buffer
    kernel: Kernel
    recorded: CommandList
    empty: CommandList
    point: FencePoint  # of a value that nobody has submitted
    ring: StagingRing
    slot: StagingSlice
    uploads: StagingRing  # without a slice outstanding
    pool: ReadbackPool
    stream: ReadbackStream
    texture: Texture | None  # where the device has them

    def calls(self, bench: Bench) -> Calls:
        """Return the calls that need the device, each with arguments that an open device would take."""
        device, ring, pool = self.device, self.ring, self.pool
        data = np.arange(4, dtype=np.uint8)
        calls: Calls = {
            "device.create_buffer": partial(device.create_buffer, 16),
            "device.create_texture": partial(device.create_texture, 1, 1),
            "device.create_kernel": partial(device.create_kernel, bench.kernel("mirror")),
            "device.create_kernel, compiled before": partial(device.create_kernel, bench.kernel("increment")),
            "device.command_list": device.command_list,
            "device.submit": partial(device.submit, self.recorded),
            "device.staging_ring": device.staging_ring,
            "device.readback_pool": device.readback_pool,
            "device.adopt": partial(device.adopt, object()),
            "device.wait_idle": partial(device.wait_idle, 1),
            "point.wait": partial(self.point.wait, bench.patience),
            "await of a point": lambda: bench.run(self._awaited()),
            "commands.fill": partial(self.empty.fill, self.buffer, 1),
            "commands.copy": partial(self.empty.copy, self.buffer, self.other),
            "commands.dispatch": lambda: self.empty.dispatch(self.kernel, [self.buffer], [1, 1], threads=1),
            "ring.allocate": partial(ring.allocate, 16),
            "ring.reserve": partial(ring.reserve, 16, 1),
            "ring.advance": partial(ring.advance, 1),
            "ring.upload": partial(self.uploads.upload, data, self.buffer),
            "slice.view": lambda: self.slot.view,
            "slice.array": lambda: self.slot.array(np.uint8),
            "slice.commit": partial(self.slot.commit, self.buffer),
            "pool.read": partial(pool.read, self.buffer),
            "pool.read_async": lambda: asyncio.run(_read_async(pool, self.buffer)),
            "pool.stream": partial(pool.stream, self.buffer),
            "stream.push": self.stream.push,
        }
        if self.texture is not None:
            calls |= {
                "slice.commit_rows": partial(self.slot.commit_rows, self.texture),
                "ring.upload to a texture": partial(self.uploads.upload, data.reshape(1, 1, 4), self.texture),
                "pool.read of a texture": partial(pool.read, self.texture),
            }
        return calls

    def budgeting(self) -> Calls:
        """Return the calls that need the device's budget to be of an open device."""
        budget = self.device.budget
        return {
            "budget.reserve": partial(budget.reserve, 16),
            "budget.reserve of device-local memory": partial(budget.reserve, 16, heap="device_local"),
            "budget.reserve with a timeout": partial(budget.reserve, 16, timeout=None),
            "budget.check": partial(budget.check, 16),
            "budget.set_limit": partial(budget.set_limit, budget.limit),
            "budget.add_reclaimer": partial(budget.add_reclaimer, lambda _nbytes: 0),
            "budget.on_watermark": partial(budget.on_watermark, 0.5, lambda _metrics: None),
        }

    def figures(self) -> Calls:
        """Return the calls that only tell something, and need nothing of the device for it."""
        device, timeline = self.device, self.point.timeline
        return {
            "device.info": lambda: device.info,
            "device.limits": lambda: device.limits,
            "device.lanes": lambda: [(name, lane.name, lane.timeline) for name, lane in device.lanes.items()],
            "budget.limit": lambda: device.budget.limit,
            "budget.metrics": device.budget.metrics,
            "timeline": lambda: (timeline.name, timeline.submitted, timeline.completed, timeline.failure),
            "point": lambda: (self.point.value, self.point.done),
            "buffer": lambda: (self.buffer.nbytes, self.buffer.label, self.buffer.closed),
            "ring": lambda: (self.ring.ring_count, self.ring.buffer_size, self.ring.closed),
            "ring.stats": self.ring.stats,
            "slice": lambda: (self.slot.nbytes, self.slot.offset, self.slot.ring_index),
            "pool": lambda: (self.pool.config, self.pool.closed),
            "pool.stats": self.pool.stats,
            "stream": lambda: self.stream.dropped_frames,
        }

    async def _awaited(self) -> None:
        await self.point


async def _read_async(pool: ReadbackPool, source: Buffer) -> Any:
    return await pool.read_async(source)


def belongings(bench: Bench, device: Device) -> DeviceObjects:
    """Make one of everything on ``device``."""
    buffer, other = device.create_buffer(BYTES), device.create_buffer(BYTES)
    timeline = device.lanes["compute"].timeline
    ring = device.staging_ring(ring_count=2, buffer_size=4096)
    slot = ring.allocate(64)
    bench.check(slot is not None, "a new ring is full")
    assert slot is not None
    pool = device.readback_pool(max_pending_ops=2, buffer_size=4096)
    return DeviceObjects(
        device,
        buffer,
        other,
        device.create_kernel(bench.kernel("increment")),
        device.command_list().fill(buffer, 1),
        device.command_list(),
        timeline.point(timeline.submitted + NEVER),
        ring,
        slot,
        device.staging_ring(ring_count=2, buffer_size=4096),
        pool,
        pool.stream(buffer),
        device.create_texture(1, 1) if "textures" in bench.capabilities else None,
    )
