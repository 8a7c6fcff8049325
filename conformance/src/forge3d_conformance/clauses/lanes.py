"""Work on lanes, as the fence and device clauses submit it and look at what it did."""

from __future__ import annotations

from collections.abc import Sequence

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import Bytes
from forge3d_core.protocols import Buffer, Device, FencePoint, Timeline

LANES = ("upload", "compute", "download")


def fill(
    device: Device, buffer: Buffer, value: int, lane: str = "compute", after: Sequence[FencePoint] = ()
) -> FencePoint:
    return device.submit(device.command_list().fill(buffer, value), lane=lane, after=after)


def contents(bench: Bench, device: Device, buffer: Buffer) -> Bytes:
    """Return what a buffer holds once all that was submitted before is done, read through a pool."""
    with device.readback_pool(max_pending_ops=1, buffer_size=max(buffer.nbytes, 4096)) as pool:
        return pool.read(buffer).wait(bench.patience)


def done(point: FencePoint) -> bool:
    return point.done


def completed(timeline: Timeline) -> int:
    return timeline.completed


def unsubmitted(device: Device, lane: str = "compute", ahead: int = 1) -> FencePoint:
    timeline = device.lanes[lane].timeline
    return timeline.point(timeline.submitted + ahead)


async def awaited(point: FencePoint) -> None:
    await point


def asleep(bench: Bench, point: FencePoint) -> None:
    bench.run(awaited(point))
