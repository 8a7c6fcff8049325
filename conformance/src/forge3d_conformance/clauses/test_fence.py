"""Fences: what completed and done may say, and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import (
    KINDS,
    asleep,
    completed,
    contents,
    done,
    fill,
    writing,
)
from forge3d_conformance.clauses.staging import Bytes
from forge3d_core.errors import DeviceLost, FenceTimeout
from forge3d_core.protocols import LANE_ROLES, Buffer, CommandList, Device, FencePoint

RACERS = 4

LARGE = (1 << 24) - 4096
"""Bytes that take a device a moment, where it has room for so many."""


def large(bench: Bench) -> int:
    """Return how many of them this device takes in one buffer and in one dispatch of groups of 64."""
    limits = bench.target.limits
    return min(LARGE, limits.max_buffer_size, 4 * 64 * limits.max_groups[0])


@pytest.mark.clause("fence.monotonic")
def test_completed_only_grows_whoever_asks(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(4096)
    timelines = [device.lanes[lane].timeline for lane in bench.lanes]
    stop = threading.Event()

    def sample() -> list[list[tuple[int, int]]]:
        seen: list[list[tuple[int, int]]] = [[] for _ in timelines]
        while not stop.wait(0.0005):
            for samples, timeline in zip(seen, timelines, strict=True):
                samples.append((timeline.completed, timeline.submitted))
        return seen

    samplers = [bench.thread(sample) for _ in range(3)]
    try:
        last = dict.fromkeys(bench.lanes, 0)
        for held in bench.lanes:
            with bench.hold(device, held, 0.1):
                points = [(lane, fill(device, buffer, 1, lane)) for lane in bench.lanes * 3]
                threading.Event().wait(0.02)  # let the samplers look at held and unheld lanes alike
            for lane, point in points:
                bench.check(
                    point.value == last[lane] + 1,
                    f"a submission has value {point.value} and the one before had {last[lane]}",
                )
                last[lane] = point.value
            for _, point in points:
                bench.wait(point)
    finally:
        stop.set()
    for sampler in samplers:
        for samples in bench.result(sampler, "a sampling thread"):
            for before, after in pairwise(samples):
                bench.check(
                    before[0] <= after[0], f"completed decreased from {before[0]} to {after[0]} on one thread"
                )
            for finished, submitted in samples:
                bench.check(
                    finished <= submitted,
                    f"completed {finished} exceeds submitted {submitted}, read after it",
                )


@pytest.mark.clause("fence.monotonic", requires=())
def test_threads_that_submit_together_get_a_value_each(bench: Bench) -> None:
    device = bench.open()
    for _ in range(bench.scale(3, 20)):
        for lane in bench.lanes:
            before = device.lanes[lane].timeline.submitted
            together = threading.Barrier(RACERS)

            def submit(together: threading.Barrier, lane: str) -> list[FencePoint]:
                buffer = device.create_buffer(64)
                together.wait(bench.patience)
                return [fill(device, buffer, n, lane) for n in range(8)]

            with bench.racing():
                racers = [bench.thread(submit, together, lane) for _ in range(RACERS)]
                raced = [bench.result(racer, "a thread that submits beside others") for racer in racers]
            for points in raced:
                values = [point.value for point in points]
                bench.check(
                    all(one < two for one, two in pairwise(values)),
                    f"submissions of one thread on {lane!r}, beside other threads, got the values {values}",
                )
            values = sorted(point.value for points in raced for point in points)
            bench.check(
                values == list(range(before + 1, before + 1 + len(values))),
                f"{RACERS} threads submitted together on {lane!r} after value {before} and got {values}: not "
                "one value each, without a gap",
            )
            for points in raced:
                bench.wait(points[-1], "what threads submitted together")


@pytest.mark.clause("fence.monotonic", requires=())
def test_values_follow_a_model(bench: Bench) -> None:
    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.device = bench.open()
            self.buffer = self.device.create_buffer(64)
            self.points: dict[str, list[FencePoint]] = {lane: [] for lane in bench.lanes}

        @rule(lane=st.sampled_from(bench.lanes))
        def submit(self, lane: str) -> None:
            point = fill(self.device, self.buffer, 1, lane)
            self.points[lane].append(point)
            bench.check(
                point.value == len(self.points[lane]),
                f"submission {len(self.points[lane])} of a lane has value {point.value}",
            )

        @rule(lane=st.sampled_from(bench.lanes))
        def wait(self, lane: str) -> None:
            for point in self.points[lane][-1:]:
                bench.wait(point)
                bench.check(point.done, "a point that was waited for is not done")

        @invariant()
        def submitted_is_the_newest(self) -> None:
            for lane, points in self.points.items():
                timeline = self.device.lanes[lane].timeline
                bench.check(
                    timeline.submitted == len(points),
                    f"submitted is {timeline.submitted} after {len(points)} submissions",
                )
                bench.check(timeline.completed <= timeline.submitted, "completed exceeds submitted")

        def teardown(self) -> None:
            self.device.close()

    bench.machine(Machine)


@pytest.mark.clause("fence.truth")
@pytest.mark.parametrize("kind", KINDS)
def test_done_means_that_memory_shows_it(bench: Bench, kind: str) -> None:
    device = bench.open()
    buffer = device.create_buffer(min(1 << 16, large(bench)))
    for round in range(1, bench.scale(4, 40)):
        lane = bench.lanes[round % len(bench.lanes)]
        write = writing(bench, device, kind, round, buffer.nbytes)
        with bench.hold(device, lane, 0.15) as hold:
            fill(device, buffer, 255, lane)
            point = device.submit(write(device.command_list(), buffer), lane=lane)
            early = hold.observe(done, point)
            bench.check(not early, "done while the device still held the work: its writes cannot be seen")
        bench.until(partial(done, point), "a released point")
        bench.same(
            bench.peek(device, buffer),
            np.full(buffer.nbytes, round, np.uint8),
            f"a {kind} on {lane!r} is done, and device memory does not show the writes",
        )


@pytest.mark.clause("fence.truth")
@pytest.mark.parametrize("kind", KINDS)
def test_a_wait_returns_only_when_memory_shows_it(bench: Bench, kind: str) -> None:
    device = bench.open()
    buffer = device.create_buffer(min(1 << 16, large(bench)))
    write = writing(bench, device, kind, 7, buffer.nbytes)
    with bench.hold(device, "compute") as hold:
        point = device.submit(write(device.command_list(), buffer))
        waiter = bench.thread(point.wait, bench.patience)
        coroutine = bench.thread(asleep, bench, point)
        threading.Event().wait(0.05)
        bench.check(not hold.observe(waiter.done), "a wait returned while the device still held the work")
        bench.check(not hold.observe(coroutine.done), "an await returned while the device held the work")
    bench.result(waiter, "a wait")
    bench.same(bench.peek(device, buffer), np.full(buffer.nbytes, 7, np.uint8), "memory after a wait")
    bench.result(coroutine, "an await")


LASTING, LEAST = 0.02, 1024
"""Seconds that are long for a fence, and bytes that a device so slow that all is long writes."""


def duration(
    bench: Bench, device: Device, write: Callable[[CommandList, Buffer], CommandList], buffer: Buffer
) -> float:
    started = time.monotonic()
    bench.wait(device.submit(write(device.command_list(), buffer)))
    return time.monotonic() - started


@pytest.mark.clause("fence.truth", requires=("peek",))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lane", LANE_ROLES)
def test_done_comes_at_the_end_of_the_work(bench: Bench, lane: str, kind: str) -> None:
    """No hold tells a fence that is signalled as the work begins: only work that takes its time does."""
    device = bench.open()
    size = large(bench)
    buffer = device.create_buffer(size)
    while size > LEAST and duration(bench, device, writing(bench, device, kind, 255, size), buffer) > LASTING:
        size = max(size // 8, LEAST)
    before = writing(bench, device, kind, 255, size)
    ways: dict[str, Callable[[FencePoint], object]] = {
        "done": lambda point: bench.until(partial(done, point), "a point"),
        "wait": bench.wait,
        "await": partial(asleep, bench),
    }
    for way, come in ways.items():
        for round in range(1, 13):
            write = writing(bench, device, kind, round, size)
            commands = device.command_list()
            for _ in range(2**round):
                before(commands, buffer)
            write(commands, buffer)
            started = time.monotonic()
            come(device.submit(commands, lane=lane))
            seen = bench.peek(device, buffer, size - 64, 64)
            wanted = np.full(64, round, np.uint8)
            bench.same(seen, wanted, f"{way} came before the end of a {kind} on {lane!r}: memory")
            if time.monotonic() - started > LASTING:
                break


@pytest.mark.clause("fence.not-early")
def test_nothing_behind_a_hold_is_complete(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    timeline = device.lanes["compute"].timeline
    bench.wait(fill(device, buffer, 9))
    with bench.hold(device, "compute") as hold:
        points = [fill(device, buffer, i) for i in range(3)]
        for point in points:
            bench.check(not hold.observe(done, point), "a point behind a held lane says done")
            bench.check(hold.observe(completed, timeline) < point.value, "completed ran past a held lane")
            with bench.raises(FenceTimeout, "a wait behind a held lane"):
                hold.observe(point.wait, 0.01)
    for point in points:
        bench.wait(point)


@pytest.mark.clause("fence.past-is-free")
def test_a_passed_value_stays_passed_while_later_work_is_held(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    past = fill(device, buffer, 1)
    bench.wait(past)
    timeline = device.lanes["compute"].timeline
    with bench.hold(device, "compute", 1.0) as hold:
        fill(device, buffer, 2)

        def look() -> tuple[bool, bool]:
            for _ in range(100):
                past.wait(0)
                past.wait(None)
            return past.done, timeline.point(past.value).done

        try:
            answers = hold.promptly(look)
        except FenceTimeout as error:
            bench.check(False, f"a wait for a passed value timed out: {error}")
        bench.check(all(answers), "a passed value says that it is not done")


@pytest.mark.clause("fence.past-is-free")
def test_who_awaits_a_passed_value_is_told_while_later_work_is_held(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    past = fill(device, buffer, 1)
    bench.wait(past)
    again = device.lanes["compute"].timeline.point(past.value)
    with bench.hold(device, "compute", 1.0) as hold:
        fill(device, buffer, 2)

        def told() -> None:
            called = threading.Event()
            for point in (past, again):
                asleep(bench, point)
                called.clear()
                point.on_done(lambda _point, _error: called.set())
                bench.check(called.wait(bench.patience), "the callback of a passed value did not come")

        hold.promptly(told)


@pytest.mark.clause("fence.nonblocking-query")
def test_a_look_never_waits_for_the_device(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    timeline = device.lanes["compute"].timeline
    with bench.hold(device, "compute", 1.0) as hold:
        points = [fill(device, buffer, i) for i in range(3)]

        def look() -> list[bool]:
            answers = []
            for _ in range(100):
                answers += [point.done for point in points]
                answers += [timeline.completed >= points[-1].value, timeline.failure is not None]
            return answers

        bench.check(not any(hold.promptly(look)), "a look at held work said complete")
    bench.wait(points[-1])


@pytest.mark.clause("fence.nonblocking-query", requires=("hold", "lose"))
def test_a_failed_point_is_simply_not_done(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    timeline = device.lanes["compute"].timeline
    with bench.hold(device, "compute") as hold:
        point = fill(device, buffer, 1)
        hold.still()
        bench.lose(device)
        with bench.raises(DeviceLost, "a wait after the loss"):
            point.wait(bench.patience)
        try:
            answers = (point.done, timeline.completed >= point.value)
        except Exception as error:
            bench.check(False, f"a look at a failed point raised {type(error).__name__}: {error}")
        bench.check(not any(answers), "a failed point says done")


@pytest.mark.clause("fence.cross-lane")
def test_the_device_waits_for_another_lane(bench: Bench) -> None:
    device = bench.open()
    first, second = device.create_buffer(256), device.create_buffer(256)
    for lane, other in around(bench.lanes):
        with bench.hold(device, lane, 1.0) as hold:
            earlier = fill(device, first, 1, lane)
            later = hold.promptly(fill, device, second, 2, other, [earlier])
            with bench.raises(FenceTimeout, "a wait for work after a held lane's point"):
                hold.observe(later.wait, 0.05)
            bench.check(
                not hold.observe(done, later), f"work on {other!r} did not wait for the point of {lane!r}"
            )
        bench.wait(later)
        bench.check(earlier.done, "work after another lane's point was done before that point")


@pytest.mark.clause("fence.cross-lane")
def test_the_device_waits_for_every_point_that_is_named(bench: Bench) -> None:
    """Two points of two lanes, of which the last is the one that is held, and from what can be read once."""
    device = bench.open()
    visible = {"peek", "concurrent_lanes"} <= bench.capabilities  # a single queue may hold up the look, too
    for lane, other in around(bench.lanes):
        free = next((name for name in bench.lanes if name not in (lane, other)), lane)
        aside, first, second = (device.create_buffer(256) for _ in range(3))
        with bench.hold(device, lane, 0.6) as hold:
            named = [fill(device, aside, 1, free), fill(device, first, 2, lane)]
            if visible and free != lane:  # the one is complete, and only the device knows it yet
                bench.until(partial(shows, bench, device, aside, 1), f"a fill on {free!r}")
                bench.peek(device, aside)  # memory shows it a moment before its fence does
            later = hold.promptly(fill, device, second, 3, other, (point for point in named))
            with bench.raises(FenceTimeout, "a wait for work after two points, the last of a held lane"):
                hold.observe(later.wait, 0.05)
            if visible:
                seen = hold.observe(bench.peek, device, second)
                bench.same(seen, solid(0), f"memory that {other!r} writes after a point of {lane!r}, held")
        bench.wait(later)
        bench.check(all(point.done for point in named), "work after two points was done before both of them")
        bench.same(contents(bench, device, first), solid(2), "memory after work that others waited for")
        bench.same(contents(bench, device, second), solid(3), "memory after work that waited for two points")


def shows(bench: Bench, device: Device, buffer: Buffer, value: int) -> bool:
    return bool((bench.peek(device, buffer) == value).all())


def solid(value: int) -> Bytes:
    return np.full(256, value, np.uint8)


def around(lanes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    yield from zip(lanes, (*lanes[1:], lanes[0]), strict=True)
