"""Fences: how anybody learns that the device has finished."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from forge3d_conformance.bench import Bench
from forge3d_core.errors import Closed, DeviceLost, FenceTimeout
from forge3d_core.protocols import Buffer, Device, FencePoint, Timeline

LANES = ("upload", "compute", "download")


def fill(
    device: Device, buffer: Buffer, value: int, lane: str = "compute", after: Sequence[FencePoint] = ()
) -> FencePoint:
    return device.submit(device.command_list().fill(buffer, value), lane=lane, after=after)


def done(point: FencePoint) -> bool:
    return point.done


def completed(timeline: Timeline) -> int:
    return timeline.completed


def unsubmitted(device: Device, lane: str = "compute", ahead: int = 1) -> FencePoint:
    timeline = device.lanes[lane].timeline
    return timeline.point(timeline.submitted + ahead)


@pytest.mark.clause("fence.monotonic")
def test_completed_only_grows_whoever_asks(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(4096)
    timelines = [device.lanes[lane].timeline for lane in LANES]
    stop = threading.Event()

    def sample() -> list[list[tuple[int, int]]]:
        seen: list[list[tuple[int, int]]] = [[] for _ in timelines]
        while not stop.wait(0.0005):
            for samples, timeline in zip(seen, timelines, strict=True):
                samples.append((timeline.completed, timeline.submitted))
        return seen

    samplers = [bench.thread(sample) for _ in range(3)]
    try:
        last = dict.fromkeys(LANES, 0)
        for held in LANES:
            with bench.hold(device, held, 0.1):
                points = [(lane, fill(device, buffer, 1, lane)) for lane in LANES * 3]
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
def test_values_follow_a_model(bench: Bench) -> None:
    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.device = bench.open()
            self.buffer = self.device.create_buffer(64)
            self.points: dict[str, list[FencePoint]] = {lane: [] for lane in LANES}

        @rule(lane=st.sampled_from(LANES))
        def submit(self, lane: str) -> None:
            point = fill(self.device, self.buffer, 1, lane)
            self.points[lane].append(point)
            bench.check(
                point.value == len(self.points[lane]),
                f"submission {len(self.points[lane])} of a lane has value {point.value}",
            )

        @rule(lane=st.sampled_from(LANES))
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
def test_done_means_that_memory_shows_it(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(1 << 16)
    for round in range(1, bench.scale(6, 40)):
        with bench.hold(device, "compute", 0.15) as hold:
            device.submit(device.command_list().fill(buffer, 255))
            point = fill(device, buffer, round)
            early = hold.observe(done, point)
            bench.check(not early, "done while the device still held the work: its writes cannot be seen")
        bench.until(partial(done, point), "a released point")
        bench.same(
            bench.peek(device, buffer),
            np.full(buffer.nbytes, round, np.uint8),
            "done, and device memory does not show the writes",
        )


@pytest.mark.clause("fence.truth")
def test_a_wait_returns_only_when_memory_shows_it(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(1 << 16)
    with bench.hold(device, "compute") as hold:
        point = fill(device, buffer, 7)
        waiter = bench.thread(point.wait, bench.patience)
        coroutine = bench.thread(asleep, bench, point)
        threading.Event().wait(0.05)
        bench.check(not hold.observe(waiter.done), "a wait returned while the device still held the work")
        bench.check(not hold.observe(coroutine.done), "an await returned while the device held the work")
    bench.result(waiter, "a wait")
    bench.same(bench.peek(device, buffer), np.full(buffer.nbytes, 7, np.uint8), "memory after a wait")
    bench.result(coroutine, "an await")


async def awaited(point: FencePoint) -> None:
    await point


def asleep(bench: Bench, point: FencePoint) -> None:
    bench.run(awaited(point))


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


@pytest.mark.clause("fence.wait-before-signal")
def test_a_wait_for_the_future_wakes_when_it_comes(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    for lane in LANES:
        first, second = unsubmitted(device, lane, 1), unsubmitted(device, lane, 2)
        waiters = [bench.thread(p.wait, bench.patience) for p in (first, first, second)]
        sleeper = bench.thread(asleep, bench, second)
        bench.check(not first.done and not second.done, "a value that nobody submitted says done")
        bench.wait(fill(device, buffer, 1, lane))
        for waiter in waiters[:2]:
            bench.result(waiter, "a wait for a value submitted after it began")
        threading.Event().wait(0.02)
        bench.check(
            not waiters[2].done() and not sleeper.done(),
            "a wait for a value that nobody has submitted yet ended with a smaller one",
        )
        fill(device, buffer, 2, lane)
        bench.result(waiters[2], "a wait for the second value submitted after it began")
        bench.result(sleeper, "a coroutine that awaits a value submitted after it began")


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


@pytest.mark.clause("fence.timeout")
def test_a_wait_ends_within_its_timeout(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    timeline = device.lanes["compute"].timeline
    with bench.hold(device, "compute", 0.8) as hold:
        point = fill(device, buffer, 1)
        for seconds in (0, 0.01, 0.1):
            started = time.monotonic()
            with bench.raises(FenceTimeout, f"wait({seconds}) on a held lane") as caught:
                hold.observe(point.wait, seconds)
            elapsed = time.monotonic() - started
            bench.check(elapsed >= seconds * 0.95, f"wait({seconds}) gave up after {elapsed:.4f} s already")
            says_what(bench, caught[0], point)
        bench.check(timeline.submitted == point.value, "a timeout changed what was submitted")
        bench.check(timeline.failure is None, f"a timeout left a failure: {timeline.failure!r}")
    bench.wait(point, "the same point after its waits timed out")


@pytest.mark.clause("fence.timeout", requires=())
def test_a_wait_for_what_never_comes_ends_soon_after_its_timeout(bench: Bench) -> None:
    device = bench.open()
    point = unsubmitted(device)
    late = []
    for seconds in (0.0, 0.05):
        started = time.monotonic()
        with bench.raises(FenceTimeout, f"wait({seconds}) for a value never submitted") as caught:
            point.wait(seconds)
        late.append(time.monotonic() - started - seconds)
        says_what(bench, caught[0], point)
    bench.check(min(late) < 1.0, f"waits ended {min(late):.2f} s after their timeouts")


def says_what(bench: Bench, error: FenceTimeout, point: FencePoint) -> None:
    text = str(error)
    bench.check(point.timeline.name in text, f"the timeout does not name the lane: {text!r}")
    bench.check(str(point.value) in text, f"the timeout does not say what is outstanding: {text!r}")


@pytest.mark.clause("fence.idle-wait")
def test_a_long_wait_burns_no_core(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)

    def share(point: FencePoint, clock: Callable[[], float]) -> float:
        started, used = time.monotonic(), clock()
        with bench.raises(FenceTimeout, "a wait for what has not come"):
            point.wait(0.25)
        return (clock() - used) / (time.monotonic() - started)

    idle = min(share(unsubmitted(device), time.process_time) for _ in range(2))
    bench.check(idle < 0.25, f"a wait for a value not submitted used {idle:.0%} of a core")
    with bench.hold(device, "compute", 0.8) as hold:
        point = fill(device, buffer, 1)
        # The device of a CPU adapter works in this process too, so only the waiter's own time counts here.
        held = hold.observe(share, point, time.thread_time)
        bench.check(held < 0.25, f"a wait on a held lane used {held:.0%} of a core")


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


class Calls:
    """Counts the calls back of points, in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Exception | None]] = []

    def of(self, name: str) -> Callable[[FencePoint, Exception | None], None]:
        return lambda _point, error: self.seen.append((name, error))

    def names(self) -> list[str]:
        return [name for name, _ in list(self.seen)]


@pytest.mark.clause("fence.any-all")
def test_each_callback_comes_exactly_once(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    calls = Calls()
    with bench.hold(device, "compute") as hold:
        points = [fill(device, buffer, i) for i in range(3)]
        for i, point in enumerate(points):
            point.on_done(calls.of(f"{i}a"))
            point.on_done(calls.of(f"{i}b"))
        early = hold.observe(calls.names)
        bench.check(not early, f"callbacks {early} came while their points were held")
    bench.until(lambda: len(calls.seen) >= 6, "the callbacks of released points")
    points[0].on_done(calls.of("late"))
    bench.until(lambda: "late" in calls.names(), "the callback of a point that was settled already")
    device.close()
    names = calls.names()
    bench.check(len(names) == 7, f"callbacks came {names}, not once each")
    bench.check(sorted(names) == ["0a", "0b", "1a", "1b", "2a", "2b", "late"], f"callbacks came {names}")
    bench.check(
        [name[0] for name in names[:6]] == list("001122"),
        f"callbacks came out of their points' order: {names}",
    )
    errors = [error for _, error in calls.seen if error is not None]
    bench.check(not errors, f"callbacks of completed points brought errors: {errors}")


@pytest.mark.clause("fence.any-all", requires=("hold", "concurrent_lanes"))
def test_any_ends_with_the_first_and_all_with_the_last(bench: Bench) -> None:
    device = bench.open()
    held, free = device.create_buffer(256), device.create_buffer(256)
    calls = Calls()
    with bench.hold(device, "compute", 1.0) as hold:
        slow, fast = fill(device, held, 1), fill(device, free, 1, "download")
        slow.on_done(calls.of("slow"))
        fast.on_done(calls.of("fast"))
        hold.observe(bench.until, lambda: "fast" in calls.names(), "the callback of a free lane")
        bench.check(hold.observe(calls.names) == ["fast"], f"callbacks {calls.names()} came during the hold")
    bench.until(lambda: calls.names() == ["fast", "slow"], "the callback of the lane that was let go")


@pytest.mark.clause("fence.any-all", requires=())
def test_a_point_that_fails_calls_back_with_its_error(bench: Bench) -> None:
    device = bench.open()
    calls = Calls()
    unsubmitted(device).on_done(calls.of("never"))
    device.close()
    bench.until(lambda: calls.seen, "the callback of a point that was closed")
    bench.check(
        isinstance(calls.seen[0][1], Closed), f"the callback of a closed point brought {calls.seen[0][1]!r}"
    )


@pytest.mark.clause("fence.many-waiters")
def test_every_waiter_wakes(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    many = bench.scale(8, 64)
    with bench.hold(device, "compute", 0.8) as hold:
        point = fill(device, buffer, 1)
        patient = [bench.thread(point.wait, bench.patience) for _ in range(many)]
        hasty = [bench.thread(timed_out, point) for _ in range(many)]

        async def together() -> None:
            await asyncio.gather(*(awaited(point) for _ in range(many)))

        coroutines = bench.thread(lambda: bench.run(together(), "coroutines that await one point"))
        for waiter in hasty:
            bench.check(
                hold.observe(bench.result, waiter, "a wait with a timeout"),
                "a wait on a held point returned before its timeout",
            )
    for waiting in patient:
        try:
            bench.result(waiting, "a waiting thread")
        except FenceTimeout as error:
            bench.check(False, f"a waiter was left behind: {error}")
    bench.result(coroutines, "coroutines that await one point")


def timed_out(point: FencePoint) -> bool:
    try:
        point.wait(0.02)
    except FenceTimeout:
        return True
    return False


@pytest.mark.clause("fence.failure-sticks")
def test_a_failure_is_kept_and_told_to_everybody(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    timeline = device.lanes["compute"].timeline
    past = fill(device, buffer, 1)
    bench.wait(past)
    with bench.hold(device, "compute") as hold:
        points = [fill(device, buffer, i) for i in range(2)]
        waiting = bench.thread(points[0].wait, bench.patience)
        hold.still()
        bench.lose(device)
        with bench.raises(DeviceLost, "a wait that was under way when the device was lost"):
            bench.result(waiting, "a wait under way")
        for point in (*points, unsubmitted(device)) * 2:
            with bench.raises(DeviceLost, "a wait after the loss"):
                point.wait(bench.patience)
            with bench.raises(DeviceLost, "an await after the loss"):
                bench.run(awaited(point))
    bench.check(isinstance(timeline.failure, DeviceLost), f"the timeline's failure is {timeline.failure!r}")
    bench.check(past.done, "a value that was complete is not done any more after a failure")
    try:
        past.wait(0)
    except Exception as error:
        bench.check(False, f"a value that was complete raised {type(error).__name__} after a failure")


@pytest.mark.clause("fence.close-wakes")
def test_close_wakes_whoever_waits_for_what_never_comes(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    bench.wait(fill(device, buffer, 1))
    points = [unsubmitted(device, lane, ahead) for lane in LANES for ahead in (1, 5)]
    waiters = [bench.thread(p.wait, bench.patience) for p in points]
    coroutines = [bench.thread(asleep, bench, p) for p in points[:2]]
    threading.Event().wait(0.02)
    device.close()
    for waiter in (*waiters, *coroutines):
        with bench.raises(Closed, "a wait under way when the device was closed"):
            bench.result(waiter, "a waiter of a closed device")
    with bench.raises(Closed, "a wait that began after the device was closed"):
        points[0].wait(bench.patience)


@pytest.mark.clause("fence.cross-lane")
def test_the_device_waits_for_another_lane(bench: Bench) -> None:
    device = bench.open()
    first, second = device.create_buffer(256), device.create_buffer(256)
    for lane, other in around(LANES):
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


def around(lanes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    yield from zip(lanes, (*lanes[1:], lanes[0]), strict=True)
