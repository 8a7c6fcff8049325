"""Several lanes at once: each point that is named holds work up, and so does each use of the same memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from functools import partial
from itertools import product

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import contents, fill
from forge3d_conformance.clauses.staging import Bytes, landed
from forge3d_conformance.holding import Holding
from forge3d_core.errors import FenceTimeout
from forge3d_core.protocols import Buffer, Device, FencePoint

BYTES = 256
SECONDS = 0.4
"""How long a hold of two lanes lasts where it has to end by itself."""


def solid(value: int, nbytes: int = BYTES) -> Bytes:
    return np.full(nbytes, value, np.uint8)


def triples(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """Yield two lanes to hold and one to work on, each lane in each part."""
    lanes = bench.lanes
    for place in range(len(lanes)):
        yield lanes[place - 2], lanes[place - 1], lanes[place]


def came(point: FencePoint, seconds: float = 0.01) -> bool:
    """Give the device a moment to do what it should not, and say whether it did."""
    try:
        point.wait(seconds)
    except FenceTimeout:
        return False
    return True


def released(bench: Bench, first: Holding, point: FencePoint) -> None:
    """Let the work of one held lane end."""
    first.release()
    bench.wait(point, "work of a lane that was let go")


@pytest.mark.clause("fence.cross-lane", requires=("hold", "concurrent_lanes"))
@pytest.mark.parametrize("work", ["fill", "nothing"])
@pytest.mark.parametrize("reverse", [False, True])
def test_each_point_that_is_named_holds_work_up(bench: Bench, work: str, reverse: bool) -> None:
    """Two points are named and both are held; either is let go first, in either order of naming."""
    device = bench.open()
    for (one, two, other), first in product(triples(bench), (0, 1)):
        buffers = [device.create_buffer(BYTES) for _ in range(3)]
        with bench.hold(device, one, SECONDS) as held, bench.hold(device, two, SECONDS) as also:
            named = [fill(device, buffers[0], 1, one), fill(device, buffers[1], 2, two)]
            commands = device.command_list()
            if work == "fill":
                commands.fill(buffers[2], 3)
            after = named[::-1] if reverse else named
            later = device.submit(commands, lane=other, after=after)
            holds = (held, also)
            released(bench, holds[first], named[first])
            bench.check(
                not holds[1 - first].observe(came, later),
                f"{work} on {other!r} did not wait for the point of {(one, two)[1 - first]!r}, one of two",
            )
        bench.wait(later)
        bench.check(all(point.done for point in named), "work was done before the points that it names")


@pytest.mark.clause("fence.cross-lane", requires=("hold", "concurrent_lanes"))
def test_an_empty_list_stands_for_what_it_comes_after(bench: Bench) -> None:
    """A chain over three lanes of which the middle one does nothing."""
    device = bench.open()
    for one, two, other in triples(bench):
        first, last = device.create_buffer(BYTES), device.create_buffer(BYTES)
        with bench.hold(device, one, SECONDS) as hold:
            begun = fill(device, first, 1, one)
            middle = device.submit(device.command_list(), lane=two, after=[begun])
            end = fill(device, last, 2, other, [middle])
            bench.check(not hold.observe(came, middle), "nothing, after a held point, did not wait for it")
            bench.check(not hold.observe(came, end), "work after nothing, after a held point, did not wait")
        bench.wait(end)
        bench.check(begun.done and middle.done, "work was done before what it comes after")


@pytest.mark.clause("device.order", requires=("hold", "concurrent_lanes"))
@pytest.mark.parametrize("first", [0, 1])
def test_a_writer_waits_for_each_of_two_readers(bench: Bench, first: int) -> None:
    device = bench.open()
    for one, two, other in triples(bench):
        source = device.create_buffer(BYTES)
        bench.wait(fill(device, source, 1, other))
        seen = [device.create_buffer(BYTES) for _ in range(2)]
        with bench.hold(device, one, SECONDS) as held, bench.hold(device, two, SECONDS) as also:
            reads = [
                device.submit(device.command_list().copy(source, target), lane=lane)
                for lane, target in zip((one, two), seen, strict=True)
            ]
            over = fill(device, source, 9, other)
            holds = (held, also)
            released(bench, holds[first], reads[first])
            bench.check(
                not holds[1 - first].observe(came, over),
                f"a writer on {other!r} did not wait for the second of two readers to let go",
            )
        bench.wait(over)
        for target in seen:
            bench.same(contents(bench, device, target), solid(1), "what a reader saw of memory written later")


@pytest.mark.clause("device.order", requires=("hold", "concurrent_lanes"))
def test_a_reader_waits_for_the_last_writer_though_its_own_lane_wrote_before(bench: Bench) -> None:
    device = bench.open()
    for one, _two, other in triples(bench):
        source, target = device.create_buffer(BYTES), device.create_buffer(BYTES)
        fill(device, source, 1, other)
        with bench.hold(device, one, SECONDS) as hold:
            fill(device, source, 2, one)
            read = device.submit(device.command_list().copy(source, target), lane=other)
            bench.check(not hold.observe(came, read), f"a reader on {other!r} did not wait for {one!r}")
        bench.wait(read)
        bench.same(contents(bench, device, target), solid(2), "what a reader saw of the last of two writers")


@pytest.mark.clause("device.order", requires=("peek", "hold"))
def test_one_lane_does_not_begin_what_comes_later(bench: Bench) -> None:
    """Memory shows it: of two submissions without a byte in common, the long one comes first."""
    device = bench.open()
    limits = device.limits
    size = min(1 << 22, limits.max_buffer_size)
    lane = bench.lanes[0]
    for round in range(1, bench.scale(4, 20)):
        large, small = device.create_buffer(size), device.create_buffer(BYTES)
        commands = device.command_list()
        for _ in range(16):
            commands.fill(large, 0)
        commands.fill(large, round)
        with bench.hold(device, lane, 0.1):
            device.submit(commands, lane=lane)
            last = fill(device, small, round, lane)
        bench.until(partial(comes, bench, device, small, round, last), "a fill")
        bench.check(
            shows(bench, device, large, round, size - 64),
            f"memory shows a fill on {lane!r} while an earlier one, of other memory, is not done",
        )
        bench.wait(last)
        large.close()


def comes(bench: Bench, device: Device, buffer: Buffer, value: int, point: FencePoint) -> bool:
    """Whether memory shows a value; if not, ask for its point: the simulator works only when asked."""
    return shows(bench, device, buffer, value) or (point.done and shows(bench, device, buffer, value))


def shows(bench: Bench, device: Device, buffer: Buffer, value: int, offset: int = 0) -> bool:
    return bool((bench.peek(device, buffer, offset, 64) == value).all())


@pytest.mark.clause("device.zeroed", requires=("hold", "concurrent_lanes"))
def test_memory_is_zeroed_before_any_lane_sees_it(bench: Bench) -> None:
    """Memory that comes back while a lane is held is zero for every other, and stays what they make of it."""
    device = bench.open()
    aside = device.create_buffer(64)
    for held, other in product(bench.lanes, repeat=2):
        if held == other:
            continue
        with device.create_buffer(4096) as dirty:
            bench.wait(fill(device, dirty, 0xAB, other))
        with bench.hold(device, held, SECONDS) as hold:
            fill(device, aside, 1, held)
            buffer = hold.promptly(device.create_buffer, 4096)
            seen = device.create_buffer(4096)
            device.submit(device.command_list().copy(buffer, seen), lane=other)
            point = fill(device, buffer, 7, other)
            hold.observe(bench.wait, point, f"work on {other!r} on fresh memory")
        device.wait_idle(bench.patience)
        bench.same(landed(bench, device, seen), solid(0, 4096), f"fresh memory, seen on {other!r}")
        bench.same(landed(bench, device, buffer), solid(7, 4096), f"memory filled on {other!r} once made")
        buffer.close()
        seen.close()


@pytest.mark.clause("fence.not-early", requires=("hold", "peek"))
def test_what_a_held_lane_is_to_write_is_not_written(bench: Bench) -> None:
    """So that a hold is one of the work, and not of what is told of it.

    A look at memory may itself stand behind the hold, where all is one queue; then it comes when that ends.
    """
    device = bench.open()
    for lane in bench.lanes:
        buffer, aside = device.create_buffer(BYTES), device.create_buffer(BYTES)
        bench.wait(fill(device, buffer, 1))
        with bench.hold(device, lane, SECONDS) as hold:
            point = fill(device, buffer, 7, lane)
            bench.check(not hold.observe(came, point), f"work on {lane!r} is done though that is held")
            if "concurrent_lanes" in bench.capabilities:
                others = [fill(device, aside, 2, other) for other in bench.lanes if other != lane]
                for other in others:  # in case the work ran there, it is over now
                    came(other, SECONDS / 4)
            look = bench.thread(bench.peek, device, buffer)
            if futures.wait([look], SECONDS / 4).done:
                seen = look.result()
                hold.still()
                bench.same(seen, solid(1), f"memory that work on {lane!r} was to write while that was held")
        bench.result(look, "a look at memory")
        bench.wait(point)
        bench.same(landed(bench, device, buffer), solid(7), f"memory that work on {lane!r} wrote")
