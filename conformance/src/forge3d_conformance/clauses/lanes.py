"""Work on lanes, as the fence and device clauses submit it and look at what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import Bytes
from forge3d_core.protocols import Buffer, CommandList, Device, FencePoint, Timeline

LANES = ("upload", "compute", "download")

KINDS = ("fill", "copy", "dispatch")
"""What a list may record, each of which any lane takes."""


def fill(
    device: Device, buffer: Buffer, value: int, lane: str = "compute", after: Iterable[FencePoint] = ()
) -> FencePoint:
    return device.submit(device.command_list().fill(buffer, value), lane=lane, after=after)


def mirror(bench: Bench, device: Device) -> Callable[[CommandList, Buffer, Buffer], CommandList]:
    """Create the kernel that copies, and return what records it: it reads one buffer and writes another.

    To be called before a lane is held: to create a kernel may wait for work in flight.
    """
    kernel = device.create_kernel(bench.kernel("mirror"))

    def record(commands: CommandList, source: Buffer, target: Buffer) -> CommandList:
        words = source.nbytes // 4
        return commands.dispatch(kernel, [source, target], [words], threads=words)

    return record


def writing(
    bench: Bench, device: Device, kind: str, value: int, nbytes: int
) -> Callable[[CommandList, Buffer], CommandList]:
    """Return what records the writing of ``value`` all over a buffer, by a command of that kind."""
    if kind == "fill":
        return lambda commands, target: commands.fill(target, value)
    source = device.create_buffer(nbytes)
    bench.wait(fill(device, source, value))
    if kind == "copy":
        return lambda commands, target: commands.copy(source, target)
    copies = mirror(bench, device)
    return lambda commands, target: copies(commands, source, target)


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
