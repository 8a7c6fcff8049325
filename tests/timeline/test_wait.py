"""Waiting for points: by threads and by coroutines, for one, for any and for all."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.errors import DeviceLost, FenceTimeout, KernelError, UsageError
from forge3d_core.timeline.points import wait_all, wait_any
from forge3d_core.timeline.timeline import Point, Timeline

from .signals import Signals, Token, submit


def test_a_passed_value_makes_no_driver_call(timeline: Timeline, signals: Signals) -> None:
    (token,) = submit(timeline)
    token.finish()
    timeline.point(1).wait()
    submit(timeline)
    signals.calls.clear()
    told: list[Any] = []
    point = timeline.point(1)
    assert point.done
    point.wait()
    point.wait(0)
    point.on_done(lambda *outcome: told.append(outcome))
    assert told == [(point, None)]
    asyncio.run(_await(point))
    assert wait_any([point]) is point
    assert not signals.calls


async def _await(point: Point) -> None:
    await point


def test_a_timeout_names_the_lane_and_what_is_outstanding(timeline: Timeline) -> None:
    submit(timeline, 3)[0].finish()
    with pytest.raises(FenceTimeout, match=r"'compute'.*value 2.*completed 1.*submitted 3.*2 submission"):
        timeline.point(2).wait(0)
    with pytest.raises(FenceTimeout, match=r"value 9 has not been submitted"):
        timeline.point(9).wait(0.001)
    with pytest.raises(TimeoutError):
        timeline.point(3).wait(0.001)


def test_a_wait_for_what_nobody_submitted_yet_wakes(
    timeline: Timeline, background: Callable[..., Any], patience: float
) -> None:
    waiting = background(timeline.point(2).wait, patience)
    first, second = Token(), Token()
    timeline.enqueue(lambda: first)
    first.finish()
    timeline.enqueue(lambda: second)
    assert second.entered.wait(patience)
    assert not waiting.done()
    second.finish()
    assert waiting.result(patience) is None


def test_a_lower_value_does_not_wait_behind_who_waits_for_a_higher(
    background: Callable[..., Any], patience: float
) -> None:
    timeline = Timeline("compute", Signals(patient=True))
    low, high = submit(timeline, 2)
    late = background(timeline.point(2).wait, patience)
    assert high.entered.wait(patience)
    early = background(timeline.point(1).wait, patience)
    assert low.entered.wait(patience)
    low.finish()
    assert early.result(patience) is None
    assert not late.done()
    high.finish()
    assert late.result(patience) is None


def test_a_leader_that_is_interrupted_wakes_the_next(background: Callable[..., Any], patience: float) -> None:
    class Interrupted(Signals):
        def wait(self, token: Token, seconds: float) -> bool:
            self.calls.append("wait")
            if len(self.calls) == self.calls.count("query") + 1:
                token.entered.set()
                token.done.wait(patience)
                token.done.clear()
                raise KeyboardInterrupt
            return super().wait(token, seconds)

    signals = Interrupted()
    timeline = Timeline("compute", signals)
    (token,) = submit(timeline)
    leader = background(timeline.point(1).wait)
    assert token.entered.wait(patience)
    follower = background(timeline.point(1).wait)
    token.entered.clear()
    token.done.set()
    with pytest.raises(KeyboardInterrupt):
        leader.result(patience)
    assert token.entered.wait(patience), "nobody leads"
    token.finish()
    assert follower.result(patience) is None


def test_only_one_of_many_waiters_is_in_the_driver(
    background: Callable[..., Any], until: Callable[..., None], patience: float
) -> None:
    signals = Signals(patient=True)
    timeline = Timeline("compute", signals)
    (token,) = submit(timeline)
    inside = background(timeline.point(1).wait, patience)
    assert token.entered.wait(patience)
    others = [background(timeline.point(1).wait, patience) for _ in range(7)]
    until(lambda: len(timeline._sleepers) == 7)
    token.finish()
    for waiter in (inside, *others):
        assert waiter.result(patience) is None
    assert signals.calls.count("wait") == 1
    assert token.retired == 1


def test_awaiting_does_not_block_the_loop_and_raises_the_failure(timeline: Timeline) -> None:
    first, second = submit(timeline, 2)

    async def main() -> None:
        beats = 0
        waiting = [asyncio.ensure_future(_await(timeline.point(value))) for value in (1, 1, 2, 2)]
        while beats < 5:
            await asyncio.sleep(0)
            beats += 1
        first.finish()
        await asyncio.gather(*waiting[:2])
        second.finish(KernelError("bad"))
        outcome = await asyncio.gather(*waiting[2:], return_exceptions=True)
        assert [type(error) for error in outcome] == [KernelError, KernelError]
        assert outcome[0] is not outcome[1]

    asyncio.run(main())


def test_a_cancelled_await_leaves_the_point_and_the_loop_alone(timeline: Timeline) -> None:
    (token,) = submit(timeline)

    async def main() -> None:
        task = asyncio.ensure_future(_await(timeline.point(1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_await(timeline.point(1)), 0.001)
        token.finish()
        await timeline.point(1)

    asyncio.run(main())


def test_a_loop_that_closed_meanwhile_is_nobodys_loss(timeline: Timeline, patience: float) -> None:
    (token,) = submit(timeline)

    async def leave() -> None:
        asyncio.ensure_future(_await(timeline.point(1)))  # noqa: RUF006  it is cancelled with the loop
        await asyncio.sleep(0)

    asyncio.run(leave())
    over = threading.Event()
    timeline.point(1).on_done(lambda *_: over.set())
    token.finish()
    assert over.wait(patience)
    assert timeline.completed == 1


def test_whoever_gives_up_leaves_no_callback(timeline: Timeline) -> None:
    submit(timeline)
    point = timeline.point(1)

    async def cancel() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_await(point), 0.001)

    for timeout in (0, 0.001, -1):
        with pytest.raises(FenceTimeout):
            wait_any([point, timeline.point(2)], timeout)
    asyncio.run(cancel())
    assert not timeline._watcher._callbacks


def test_a_timeout_without_end(
    timeline: Timeline, background: Callable[..., Any], until: Callable[..., None], patience: float
) -> None:
    """Of those who wait only one is in the driver; the others sleep, and may do so for ever."""
    (token,) = submit(timeline)
    point = timeline.point(1)
    waiters = [background(point.wait, math.inf) for _ in range(3)]
    waiters += [background(wait_all, [point], math.inf), background(wait_any, [point], math.inf)]
    waiters.append(background(timeline.point(2).wait, math.inf))
    until(lambda: len(timeline._sleepers) >= 3)
    token.finish()
    for waiter in waiters[:-1]:
        waiter.result(patience)
    timeline.enqueue(lambda: token)
    waiters[-1].result(patience)


def test_wait_all_has_one_timeout_for_all(timeline: Timeline) -> None:
    first, second = submit(timeline, 2)
    first.finish()
    with pytest.raises(FenceTimeout, match="value 2"):
        wait_all([timeline.point(1), timeline.point(2)], timeout=0.001)
    second.finish()
    wait_all([timeline.point(2), timeline.point(1)], timeout=0)
    wait_all([])


def test_wait_any_returns_the_first_and_raises_its_failure(
    background: Callable[..., Any], patience: float
) -> None:
    lanes = [Timeline(name, Signals()) for name in ("upload", "download")]
    (slow,), (fast,) = (submit(lane) for lane in lanes)
    points = [lane.point(1) for lane in lanes]
    with pytest.raises(FenceTimeout, match=r"none of 2 points.*'upload' value 1, 'download' value 1"):
        wait_any(points, timeout=0.001)
    waiting = background(wait_any, points, patience)
    fast.finish()
    assert waiting.result(patience) == points[1]
    with pytest.raises(UsageError, match="at least one"):
        wait_any([])
    lost = Timeline("compute", Signals())
    (token,) = submit(lost)
    token.finish(DeviceLost("gone"))
    with pytest.raises(DeviceLost):
        wait_any([points[0], lost.point(1)], patience)
    slow.finish()
