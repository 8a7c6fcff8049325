"""What a process tells: figures of its devices, as values and as JSON."""

from __future__ import annotations

import json
from typing import Any

import attrs
import cattrs

from forge3d_core.protocols import BudgetMetrics, Device
from forge3d_core.readback.pool import Pool
from forge3d_core.ring.ring import Ring

MAX_BYTES = 1 << 20
"""What a process tells is less; a file that is larger is none of ours."""

MAX_SHOWN = 32
"""So many rings and so many pools of a device are told one by one."""


@attrs.frozen
class LaneStatus:
    """A lane. Submissions; what is submitted and not completed is in flight."""

    name: str
    submitted: int
    completed: int


@attrs.frozen
class RingStatus:
    """A staging ring. Sizes in bytes."""

    lane: str
    ring_count: int
    buffer_size: int
    bytes_in_flight: int
    bytes_staged: int
    buffer_stalls: int


@attrs.frozen
class PoolStatus:
    """A readback pool. Sizes in bytes."""

    lane: str
    blocks: int
    block_bytes: int
    pending_operations: int
    completed_operations: int
    bytes_read: int
    waits: int


@attrs.frozen
class DeviceStatus:
    """A device. Names as in :class:`BudgetMetrics`; sizes in bytes. ``open`` is false once it has closed."""

    name: str
    address: str  # what opens it: "backend:selector"
    open: bool
    host_visible_bytes: int
    limit_bytes: int
    peak_host_visible_bytes: int
    device_local_bytes: int
    memory_bytes: int | None
    peak_bytes: int
    buffer_count: int
    texture_count: int
    refusals: int
    lanes: tuple[LaneStatus, ...] = ()
    rings: tuple[RingStatus, ...] = ()
    pools: tuple[PoolStatus, ...] = ()

    @property
    def in_flight(self) -> int:
        """Submissions that are not complete."""
        return sum(lane.submitted - lane.completed for lane in self.lanes)


@attrs.frozen
class ProcessStatus:
    """A process. ``time`` is when it told this, in seconds since the epoch; ``ended`` is told last."""

    pid: int
    program: str
    time: float
    ended: bool
    host_visible_bytes: int
    limit_bytes: int
    peak_host_visible_bytes: int
    devices: tuple[DeviceStatus, ...] = ()  # in the order in which they were opened
    closed_devices: int = 0  # of which not all need be among the devices


def device_status(device: Device, metrics: BudgetMetrics) -> DeviceStatus:
    """Return the figures of a device that is open, or was when this was called."""
    made: list[object] = getattr(device, "made", list)()
    return attrs.evolve(
        budget_status(device.info, metrics, is_open=not device.closed),
        lanes=tuple(
            LaneStatus(name, lane.timeline.submitted, lane.timeline.completed)
            for name, lane in device.lanes.items()
            if name in device.limits.lanes
        ),
        rings=tuple(_ring(one) for one in made if isinstance(one, Ring) and not one.closed)[:MAX_SHOWN],
        pools=tuple(_pool(one) for one in made if isinstance(one, Pool) and not one.closed)[:MAX_SHOWN],
    )


def budget_status(info: Any, metrics: BudgetMetrics, *, is_open: bool) -> DeviceStatus:
    """Return what a device's budget tells, which it does after the device has closed as well."""
    return DeviceStatus(
        name=info.name,
        address=f"{info.backend}:{info.selector}" if info.selector else info.backend,
        open=is_open,
        host_visible_bytes=metrics.host_visible_bytes,
        limit_bytes=metrics.limit_bytes,
        peak_host_visible_bytes=metrics.peak_host_visible_bytes,
        device_local_bytes=metrics.device_local_bytes,
        memory_bytes=info.memory_bytes,
        peak_bytes=metrics.peak_bytes,
        buffer_count=metrics.buffer_count,
        texture_count=metrics.texture_count,
        refusals=metrics.refusals,
    )


def encoded(status: ProcessStatus) -> bytes:
    return json.dumps(attrs.asdict(status)).encode()


def decoded(data: bytes) -> ProcessStatus | None:
    """Return what a process told, or None for what is nothing of the kind."""
    try:
        return _converter.structure(json.loads(data), ProcessStatus)
    except Exception:  # JSON of another version, of another program, or none
        return None


def _ring(ring: Ring) -> RingStatus:
    stats = ring.stats()
    return RingStatus(
        ring.lane,
        stats.ring_count,
        stats.buffer_size,
        stats.bytes_in_flight,
        stats.bytes_staged,
        stats.buffer_stalls,
    )


def _pool(pool: Pool) -> PoolStatus:
    stats = pool.stats()
    return PoolStatus(
        pool.lane,
        stats.blocks,
        stats.block_bytes,
        stats.pending_operations,
        stats.completed_operations,
        stats.bytes_read,
        stats.waits,
    )


_converter = cattrs.Converter()
