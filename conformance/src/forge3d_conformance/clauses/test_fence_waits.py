"""Fences: waiting, being called back, and being told of failures."""

from __future__ import annotations

import asyncio
import re
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import asleep, awaited, fill, unsubmitted
from forge3d_conformance.waiting import PROMPT
from forge3d_core.errors import Closed, DeviceLost, FenceTimeout
from forge3d_core.protocols import FencePoint


@pytest.mark.clause("fence.wait-before-signal")
def test_a_wait_for_the_future_wakes_when_it_comes(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    for lane in bench.lanes:
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


OUTSTANDING = 37
"""The value that is waited for in vain: a message does not name it by accident."""


@pytest.mark.clause("fence.timeout")
def test_a_wait_ends_within_its_timeout(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    timeline = device.lanes["compute"].timeline
    for _ in range(OUTSTANDING - 1):
        before = fill(device, buffer, 0)
    bench.wait(before)
    with bench.hold(device, "compute", 0.8) as hold:
        point = fill(device, buffer, 1)
        for seconds in (0, 0.01, 0.1):
            started = time.monotonic()
            with bench.raises(FenceTimeout, f"wait({seconds}) on a held lane") as caught:
                hold.observe(ended, bench, point, seconds)
            elapsed = time.monotonic() - started
            bench.check(elapsed >= seconds * 0.95, f"wait({seconds}) gave up after {elapsed:.4f} s already")
            says_what(bench, caught[0], point)
        bench.check(timeline.submitted == point.value, "a timeout changed what was submitted")
        bench.check(timeline.failure is None, f"a timeout left a failure: {timeline.failure!r}")
    bench.wait(point, "the same point after its waits timed out")


@pytest.mark.clause("fence.timeout", requires=())
def test_a_wait_for_what_never_comes_ends_soon_after_its_timeout(bench: Bench) -> None:
    device = bench.open()
    point = unsubmitted(device, ahead=OUTSTANDING)
    for seconds in (0, 0.05):
        with bench.raises(FenceTimeout, f"wait({seconds}) for a value never submitted") as caught:
            ended(bench, point, seconds)
        says_what(bench, caught[0], point)


def ended(bench: Bench, point: FencePoint, seconds: float) -> None:
    bench.within(seconds + PROMPT, f"wait({seconds})", point.wait, seconds)


def says_what(bench: Bench, error: FenceTimeout, point: FencePoint) -> None:
    text = str(error)
    bench.check(point.timeline.name in text, f"the timeout does not name the lane: {text!r}")
    bench.check(
        re.search(rf"\b{point.value}\b", text), f"the timeout does not say what is outstanding: {text!r}"
    )


class Calls:
    """Counts the calls back of points, in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Exception | None]] = []

    def of(self, name: str) -> Callable[[FencePoint, Exception | None], None]:
        return lambda _point, error: self.seen.append((name, error))

    def names(self) -> list[str]:
        return [name for name, _ in list(self.seen)]

    def come(self, bench: Bench, count: int, what: str) -> None:
        """Wait for that many calls back, of points that are settled: no time is left to be lost."""
        bench.within(PROMPT, what, bench.until, lambda: len(self.seen) >= count, what)

    def once(self, bench: Bench, names: list[str], kind: type[Exception]) -> None:
        """Check that each came once, and with an error of that kind."""
        threading.Event().wait(0.05)  # a second call follows soon after the first, if it does
        seen = list(self.seen)
        came = sorted(name for name, _ in seen)
        bench.check(came == names, f"callbacks of failed points came {came}, not once each")
        wrong = [error for _, error in seen if not isinstance(error, kind)]
        bench.check(not wrong, f"callbacks of failed points brought {wrong} instead of {kind.__name__}")


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
    bench.wait(points[-1])
    calls.come(bench, 6, "the callbacks of points that are done")
    points[0].on_done(calls.of("late"))
    calls.come(bench, 7, "the callback of a point that was settled already")
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
        hold.observe(bench.wait, fast)
        hold.observe(calls.come, bench, 1, "the callback of a free lane")
        bench.check(hold.observe(calls.names) == ["fast"], f"callbacks {calls.names()} came during the hold")
    bench.wait(slow)
    calls.come(bench, 2, "the callback of the lane that was let go")
    bench.check(calls.names() == ["fast", "slow"], f"callbacks came {calls.names()}")


@pytest.mark.clause("fence.any-all", requires=())
def test_a_point_that_fails_calls_back_with_its_error(bench: Bench) -> None:
    device = bench.open()
    calls = Calls()
    for ahead in (1, 2):
        unsubmitted(device, ahead=ahead).on_done(calls.of(f"never {ahead}"))
    device.close()
    calls.come(bench, 2, "the callbacks of points that were closed")
    unsubmitted(device).on_done(calls.of("late"))
    calls.come(bench, 3, "the callback of a point that was closed already")
    calls.once(bench, ["late", "never 1", "never 2"], Closed)


@pytest.mark.clause("fence.any-all", requires=("hold", "lose"))
def test_a_point_that_is_lost_calls_back_once(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    calls = Calls()
    with bench.hold(device, "compute") as hold:
        points = [fill(device, buffer, i) for i in range(2)]
        for i, point in enumerate(points):
            point.on_done(calls.of(f"{i}"))
        hold.still()
        bench.lose(device)
        with bench.raises(DeviceLost, "a wait after the loss"):
            points[-1].wait(bench.patience)
        calls.come(bench, 2, "the callbacks of points that were lost")
    points[0].on_done(calls.of("late"))
    calls.come(bench, 3, "the callback of a point that was lost already")
    device.close()
    calls.once(bench, ["0", "1", "late"], DeviceLost)


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


@pytest.mark.clause("fence.failure-sticks")
def test_what_was_lost_stays_lost_when_it_is_closed(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    timeline = device.lanes["compute"].timeline
    calls = Calls()
    with bench.hold(device, "compute") as hold:
        point = fill(device, buffer, 1)
        hold.still()
        bench.lose(device)
        with bench.raises(DeviceLost, "a wait after the loss"):
            point.wait(bench.patience)
    device.close()
    for one in (point, unsubmitted(device)):
        with bench.raises(DeviceLost, "a wait after the loss and close"):
            one.wait(bench.patience)
        with bench.raises(DeviceLost, "an await after the loss and close"):
            bench.run(awaited(one))
        one.on_done(calls.of("late"))
    calls.come(bench, 2, "callbacks after the loss and close")
    calls.once(bench, ["late", "late"], DeviceLost)
    failure = timeline.failure
    bench.check(isinstance(failure, DeviceLost), f"after the loss and close the failure is {failure!r}")


@pytest.mark.clause("fence.close-wakes", requires=("hold",))
def test_close_wakes_whoever_waits_for_work_that_it_gave_up_on(bench: Bench) -> None:
    device = bench.open(drain_timeout=0.05)
    buffer = device.create_buffer(256)
    calls = Calls()
    with bench.hold(device, "compute", 1.0) as hold:
        point = fill(device, buffer, 1)
        point.on_done(calls.of("given up"))
        waiters = [bench.thread(point.wait, bench.patience), bench.thread(asleep, bench, point)]
        threading.Event().wait(0.02)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # that work was given up, as it was
            hold.promptly(device.close)
        for waiter in waiters:
            with bench.raises(Closed, "a wait for submitted work that close gave up on"):
                bench.result(waiter, "a waiter of a closed device")
        for again in (partial(point.wait, bench.patience), partial(asleep, bench, point)):
            with bench.raises(Closed, "a later wait for submitted work that close gave up on"):
                again()
    bench.check(not point.done, "work that close gave up on says done")
    bench.until(lambda: calls.seen, "the callback of work that close gave up on")
    bench.check(
        isinstance(calls.seen[0][1], Closed),
        f"the callback of work that close gave up on brought {calls.seen[0][1]!r}",
    )


@pytest.mark.clause("fence.close-wakes")
def test_close_wakes_whoever_waits_for_what_never_comes(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    bench.wait(fill(device, buffer, 1))
    points = [unsubmitted(device, lane, ahead) for lane in bench.lanes for ahead in (1, 5)]
    waiters = [bench.thread(p.wait, bench.patience) for p in points]
    coroutines = [bench.thread(asleep, bench, p) for p in points[:2]]
    threading.Event().wait(0.02)
    device.close()
    for waiter in (*waiters, *coroutines):
        with bench.raises(Closed, "a wait under way when the device was closed"):
            bench.result(waiter, "a waiter of a closed device")
    with bench.raises(Closed, "a wait that began after the device was closed"):
        points[0].wait(bench.patience)
