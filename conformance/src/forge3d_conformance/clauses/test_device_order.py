"""The order of work: on one lane as submitted, between lanes by the memory it touches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import permutations

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import contents, fill, mirror
from forge3d_conformance.clauses.staging import Bytes
from forge3d_conformance.holding import Holding
from forge3d_core.errors import FenceTimeout
from forge3d_core.protocols import Buffer, Device, FencePoint

BLOCK = 1024


def solid(value: int) -> Bytes:
    return np.full(BLOCK, value, np.uint8)


def copy(device: Device, source: Buffer, target: Buffer, lane: str) -> FencePoint:
    return device.submit(device.command_list().copy(source, target), lane=lane)


def filled(bench: Bench, device: Device, value: int) -> Buffer:
    buffer = device.create_buffer(BLOCK)
    bench.wait(fill(device, buffer, value))
    return buffer


def pairs(bench: Bench) -> Iterator[tuple[str, str]]:
    """Yield lanes to hold and lanes to work on; where all lanes are one queue there is one pair to try."""
    lanes = bench.target.limits.lanes
    if bench.target.limits.concurrent_lanes and len(lanes) > 1:
        yield from permutations(lanes, 2)
    else:
        yield lanes[0], lanes[-1]


def some_lanes(bench: Bench, *lanes: str) -> tuple[str, ...]:
    """Return ``lanes``, or one of them where they are all the same queue."""
    return lanes if "concurrent_lanes" in bench.capabilities else lanes[:1]


def waits(bench: Bench, hold: Holding, point: FencePoint, what: str) -> None:
    bench.check(not hold.observe(ended, point), f"{what} did not wait for it")


def ended(point: FencePoint) -> bool:
    """Give the device a moment to do what it should not, and say whether it did."""
    try:
        point.wait(0.01)
    except FenceTimeout:
        return False
    return True


Reader = Callable[[Buffer, Buffer, str], FencePoint]
"""Submits what reads the first buffer and writes the second, on a lane."""


def reads_after_a_write(bench: Bench, reader: str, device: Device, read: Reader) -> None:
    """Check that a reader on one lane waits for a writer on another, and sees what it wrote."""
    for held, other in pairs(bench):
        source, target = filled(bench, device, 1), filled(bench, device, 2)
        with bench.hold(device, held, 0.2) as hold:
            fill(device, source, 7, held)
            point = read(source, target, other)
            hold.still()
            waits(bench, hold, point, f"{reader} on {other!r} of what a held submission on {held!r} writes")
        bench.wait(point)
        bench.same(
            contents(bench, device, target),
            solid(7),
            f"what {reader} on {other!r} saw of a write on {held!r}",
        )


def by_kernel(bench: Bench, device: Device) -> Reader:
    copies = mirror(bench, device)
    return lambda source, target, lane: device.submit(
        copies(device.command_list(), source, target), lane=lane
    )


@pytest.mark.clause("device.order")
def test_a_reader_waits_for_the_last_writer(bench: Bench) -> None:
    device = bench.open()
    reads_after_a_write(bench, "a reader", device, partial(copy, device))


@pytest.mark.clause("device.order")
def test_a_kernel_that_only_reads_waits_for_the_last_writer(bench: Bench) -> None:
    device = bench.open()
    reads_after_a_write(bench, "a reading kernel", device, by_kernel(bench, device))


@pytest.mark.clause("device.order")
def test_a_writer_waits_for_all_readers_and_writers(bench: Bench) -> None:
    device = bench.open()
    for held, other in pairs(bench):
        source, target, twice = (filled(bench, device, n) for n in (1, 2, 3))
        with bench.hold(device, held, 0.2) as hold:
            copy(device, source, target, held)
            fill(device, twice, 8, held)
            over = fill(device, source, 9, other)
            again = fill(device, twice, 9, other)
            hold.still()
            waits(bench, hold, over, f"a writer on {other!r} of what a held submission on {held!r} reads")
            waits(bench, hold, again, f"a writer on {other!r} of what a held submission on {held!r} writes")
        bench.wait(over)
        bench.wait(again)
        bench.same(contents(bench, device, target), solid(1), "what a reader saw of memory written later")
        bench.same(contents(bench, device, source), solid(9), "memory written after it was read")
        bench.same(contents(bench, device, twice), solid(9), "memory written on two lanes")


@pytest.mark.clause("device.order")
def test_a_writer_waits_for_a_kernel_that_only_reads(bench: Bench) -> None:
    device = bench.open()
    read = by_kernel(bench, device)
    for held, other in pairs(bench):
        source, target = filled(bench, device, 1), filled(bench, device, 2)
        with bench.hold(device, held, 0.2) as hold:
            read(source, target, held)
            over = fill(device, source, 9, other)
            hold.still()
            waits(bench, hold, over, f"a writer on {other!r} of what a held kernel on {held!r} reads")
        bench.wait(over)
        bench.same(contents(bench, device, target), solid(1), "what a kernel read of memory written later")
        bench.same(contents(bench, device, source), solid(9), "memory written after a kernel read it")


@pytest.mark.clause("device.order")
def test_a_readback_waits_for_the_writer_on_another_lane(bench: Bench) -> None:
    device = bench.open()
    pool = device.readback_pool(max_pending_ops=2, buffer_size=BLOCK)
    for held in some_lanes(bench, "compute", "upload"):
        buffer = filled(bench, device, 1)
        with bench.hold(device, held, 0.2) as hold:
            fill(device, buffer, 7, held)
            read = pool.read(buffer)
            bench.check(
                not hold.observe(ended, read.point),
                f"a readback of what a held submission on {held!r} writes did not wait for it",
            )
        bench.same(read.wait(bench.patience), solid(7), f"a readback of what was written on {held!r}")


@pytest.mark.clause("device.order")
def test_an_upload_waits_for_the_reader_on_another_lane(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=BLOCK)
    for held in some_lanes(bench, "compute", "download"):
        source, target = filled(bench, device, 1), filled(bench, device, 2)
        with bench.hold(device, held, 0.2) as hold:
            copy(device, source, target, held)
            slot = ring.reserve(BLOCK, bench.patience)
            slot.view[:] = 9
            slot.commit(source)
            over = ring.advance(bench.patience)
            waits(bench, hold, over, f"an upload to what a held submission on {held!r} reads")
        bench.wait(over)
        bench.same(contents(bench, device, target), solid(1), "what a reader saw of memory uploaded later")
        bench.same(contents(bench, device, source), solid(9), "memory uploaded after it was read")


@pytest.mark.clause("device.order", requires=("hold", "concurrent_lanes", "textures"))
def test_texels_are_put_in_order_as_bytes_are(bench: Bench) -> None:
    device = bench.open()
    texture, busy = device.create_texture(16, 4), filled(bench, device, 0)
    room = 4 * max(BLOCK, device.limits.row_pitch_alignment)
    ring = device.staging_ring(ring_count=2, buffer_size=room)
    pool = device.readback_pool(max_pending_ops=2, buffer_size=room)
    one, two, three = (np.full((4, 16, 4), value, np.uint8) for value in (1, 2, 3))
    bench.wait(ring.upload(one, texture))
    with bench.hold(device, "download", 0.2) as hold:
        fill(device, busy, 1, "download")
        read = pool.read(texture)
        waits(bench, hold, ring.upload(two, texture), "an upload to a texture that a held read reads")
    bench.same(read.wait(bench.patience), one, "what a read saw of a texture that was uploaded to later")
    device.wait_idle(bench.patience)
    with bench.hold(device, "upload", 0.2) as hold:
        fill(device, busy, 1, "upload")
        ring.upload(three, texture)
        read = pool.read(texture)
        waits(bench, hold, read.point, "a read of a texture that a held upload writes")
    bench.same(read.wait(bench.patience), three, "what a read saw of a texture that was uploaded to before")


@pytest.mark.clause("device.order")
def test_one_lane_runs_in_the_order_of_submission(bench: Bench) -> None:
    device = bench.open()
    for lane in some_lanes(bench, *bench.lanes):
        buffers = [filled(bench, device, 0) for _ in range(4)]
        with bench.hold(device, lane, 0.2) as hold:
            points = [fill(device, buffer, 5, lane) for buffer in buffers]
            for point in points:
                waits(bench, hold, point, f"work on {lane!r}, submitted behind what holds it,")
        for point in reversed(points):
            bench.wait(point)
            bench.check(
                all(earlier.done for earlier in points[: point.value - points[0].value]),
                f"work on {lane!r} ended before what was submitted earlier",
            )


@pytest.mark.clause("device.order", requires=())
def test_programs_without_after_are_correct(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=BLOCK)
    pool = device.readback_pool(max_pending_ops=4, buffer_size=BLOCK)
    kernel = device.create_kernel(bench.kernel("increment"))
    mirrors = device.create_kernel(bench.kernel("mirror"))
    buffers = [device.create_buffer(BLOCK) for _ in range(3)]
    model = [solid(0) for _ in buffers]

    def step(kind: str, first: int, second: int, lane: str) -> Callable[[], None] | None:
        commands = device.command_list()
        value = int(bench.random.integers(256))
        match kind:
            case "fill":
                device.submit(commands.fill(buffers[first], value, offset=64, nbytes=512), lane=lane)
                model[first][64:576] = value
            case "copy" if first != second:
                nbytes = int(bench.random.integers(1, BLOCK + 1))
                device.submit(commands.copy(buffers[first], buffers[second], nbytes), lane=lane)
                model[second][:nbytes] = model[first][:nbytes]
            case "increment":
                words = BLOCK // 4
                commands.dispatch(kernel, [buffers[first]], [value, words], threads=words)
                device.submit(commands, lane="compute")
                model[first].view(np.uint32)[:] += np.uint32(value)
            case "mirror" if first != second:
                words = int(bench.random.integers(1, BLOCK // 4 + 1))
                commands.dispatch(mirrors, [buffers[first], buffers[second]], [words], threads=words)
                device.submit(commands, lane=lane)
                model[second][: 4 * words] = model[first][: 4 * words]
            case "upload":
                data = bench.payload(200)
                ring.upload(data, buffers[first], 12, timeout=bench.patience)
                model[first][12:212] = data
            case "read":
                handle, wanted = pool.read(buffers[first]), model[first].copy()
                return lambda: bench.same(handle.wait(bench.patience), wanted, "a readback under way")
        return None

    kinds = ("fill", "copy", "increment", "mirror", "upload", "read")
    for _ in range(bench.scale(4, 40)):
        checks: list[Callable[[], None]] = []
        for _ in range(25):
            kind, lane = str(bench.random.choice(kinds)), str(bench.random.choice(bench.target.limits.lanes))
            first, second = (int(n) for n in bench.random.integers(len(buffers), size=2))
            check = step(kind, first, second, lane)
            checks += [check] if check else []
        for check in checks:
            check()
        for buffer, wanted in zip(buffers, model, strict=True):
            bench.same(contents(bench, device, buffer), wanted, "memory after a program without after")
