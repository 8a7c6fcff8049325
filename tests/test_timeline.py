from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from forge3d_core.errors import Closed, DeviceLost, FenceTimeout, ForgeError, KernelError, UsageError
from forge3d_core.timeline import Point, Timeline, wait_all, wait_any


@attrs.define(eq=False)
class Token:
    done: threading.Event = attrs.field(factory=threading.Event)
    entered: threading.Event = attrs.field(factory=threading.Event)  # somebody waits in the driver
    error: Exception | None = None
    retired: int = 0

    def finish(self, error: Exception | None = None) -> None:
        self.error = error
        self.done.set()


@attrs.define(eq=False)
class Signals:
    """A driver whose tokens complete when the test says so. ``patient``: it overstays its leash."""

    patient: bool = False
    calls: list[str] = attrs.field(factory=list)

    def query(self, token: Token) -> bool:
        self.calls.append("query")
        return self._answer(token)

    def wait(self, token: Token, seconds: float) -> bool:
        self.calls.append("wait")
        token.entered.set()
        token.done.wait(20.0 if self.patient else seconds)
        return self._answer(token)

    def retire(self, token: Token) -> None:
        token.retired += 1

    def _answer(self, token: Token) -> bool:
        if token.error is not None:
            raise token.error
        return token.done.is_set()


@pytest.fixture
def signals() -> Signals:
    return Signals()


@pytest.fixture
def timeline(signals: Signals) -> Timeline:
    return Timeline("compute", signals)


def submit(timeline: Timeline, count: int = 1) -> list[Token]:
    tokens = [Token() for _ in range(count)]
    for token in tokens:
        timeline.enqueue(lambda token=token: token)
    return tokens


def test_values_start_at_one_and_have_no_gaps(timeline: Timeline) -> None:
    assert (timeline.submitted, timeline.completed) == (0, 0)
    assert [timeline.enqueue(Token).value for _ in range(3)] == [1, 2, 3]
    assert timeline.submitted == 3


def test_a_submission_that_fails_takes_no_value(timeline: Timeline) -> None:
    def refuse() -> Any:
        raise KernelError("no")

    with pytest.raises(KernelError):
        timeline.enqueue(refuse)
    assert timeline.submitted == 0
    assert timeline.enqueue(Token).value == 1


def test_completed_grows_in_order_whatever_completes_first(timeline: Timeline) -> None:
    first, second, third = submit(timeline, 3)
    third.finish()
    second.finish()
    assert timeline.completed == 0
    assert not timeline.point(2).done
    first.finish()
    assert timeline.completed == 3
    assert [t.retired for t in (first, second, third)] == [1, 1, 1]


@pytest.mark.parametrize("value", [-1, 1.0, "1", None])
def test_a_point_is_a_number_from_zero(timeline: Timeline, value: Any) -> None:
    with pytest.raises(UsageError, match="value"):
        timeline.point(value)
    assert timeline.point(0).done


def test_points_are_values(timeline: Timeline, signals: Signals) -> None:
    assert timeline.point(3) == timeline.point(3) != timeline.point(4)
    assert timeline.point(3) != Timeline("compute", signals).point(3)


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
    until(lambda: signals.calls.count("query") == 8)  # each of them has looked once
    token.finish()
    for waiter in (inside, *others):
        assert waiter.result(patience) is None
    assert signals.calls.count("wait") == 1
    assert token.retired == 1


def test_callbacks_come_once_and_in_order_of_value(timeline: Timeline, patience: float) -> None:
    tokens = submit(timeline, 3)
    told: list[tuple[int, Exception | None]] = []
    over = threading.Event()
    for value in (3, 1, 2, 1):
        timeline.point(value).on_done(lambda point, error: told.append((point.value, error)))
    timeline.point(4).on_done(lambda *_: over.set())
    for token in tokens:
        token.finish()
    timeline.enqueue(Token)
    timeline._pending[-1][1].finish()
    assert over.wait(patience)
    assert sorted(told) == [(1, None), (1, None), (2, None), (3, None)]


def test_a_callback_runs_under_nobodys_lock(
    timeline: Timeline, background: Callable[..., Any], patience: float
) -> None:
    """Who polls may hold a lock that the callback wants: it must not be the poller who calls back."""
    (token,) = submit(timeline)
    lock, told = threading.Lock(), threading.Event()

    def settle(_point: object, _error: object) -> None:
        with lock:
            told.set()

    timeline.point(1).on_done(settle)
    token.finish()

    def poll_inside() -> bool:
        with lock:
            return timeline.point(1).done

    assert background(poll_inside).result(patience)
    assert told.wait(patience)


def test_a_callback_that_raises_spares_the_others(
    timeline: Timeline, patience: float, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_point: object, _error: object) -> None:
        raise RuntimeError("somebody's mistake")

    (first, second) = submit(timeline, 2)
    told, later = threading.Event(), threading.Event()
    timeline.point(1).on_done(fail)
    timeline.point(1).on_done(lambda *_: told.set())
    timeline.point(2).on_done(lambda *_: later.set())
    first.finish()
    assert told.wait(patience)
    second.finish()
    assert later.wait(patience)
    assert "somebody's mistake" in caplog.text


def test_one_watcher_serves_callback_after_callback(timeline: Timeline, patience: float) -> None:
    threads = set()
    for value in range(1, 6):
        (token,) = submit(timeline)
        told = threading.Event()

        def settle(_point: object, _error: object, told: threading.Event = told) -> None:
            threads.add(threading.current_thread())
            told.set()

        timeline.point(value).on_done(settle)
        token.finish()
        assert told.wait(patience)
    assert len(threads) == 1


def test_the_first_failure_sticks_and_what_was_complete_stays(timeline: Timeline, patience: float) -> None:
    first, second, third = submit(timeline, 3)
    told: list[Exception | None] = []
    over = threading.Event()
    for value in (1, 2, 3, 8):
        timeline.point(value).on_done(
            lambda point, error: (told.append(error), point.value == 8 and over.set())
        )
    first.finish()
    second.finish(KernelError("division by zero"))
    third.finish()
    assert over.wait(patience)
    assert [type(error) for error in told] == [type(None), KernelError, KernelError, KernelError]
    assert timeline.completed == 1
    timeline.point(1).wait(0)
    assert timeline.point(1).done
    for value in (2, 3, 8):
        assert not timeline.point(value).done
        for _ in range(2):
            with pytest.raises(KernelError, match="division"):
                timeline.point(value).wait()
    with pytest.raises(KernelError):
        timeline.enqueue(Token)
    late: list[Exception | None] = []
    timeline.point(3).on_done(lambda _point, error: late.append(error))
    assert isinstance(late[0], KernelError)
    timeline.fail(DeviceLost("later"))
    assert isinstance(timeline.failure, KernelError)


def test_completion_after_a_failure_changes_nothing_and_asks_no_driver(
    timeline: Timeline, signals: Signals
) -> None:
    """A device that closes fails its lanes, then lets their work end and takes the driver away."""
    (token,) = submit(timeline)
    timeline.fail(Closed("the device was closed"))
    token.finish()
    signals.calls.clear()
    assert not timeline.point(1).done
    assert timeline.completed == 0
    with pytest.raises(Closed):
        timeline.point(1).wait(0)
    assert not signals.calls


def test_a_failure_is_told_to_the_owner_once(signals: Signals) -> None:
    told: list[Exception] = []
    timeline = Timeline("compute", signals, told.append)
    (token,) = submit(timeline)
    token.finish(DeviceLost("gone"))
    for _ in range(3):
        assert not timeline.point(1).done
    assert [type(error) for error in told] == [DeviceLost]


def test_a_failure_wakes_every_waiter_with_an_error_of_its_own(
    timeline: Timeline,
    background: Callable[..., Any],
    until: Callable[..., None],
    signals: Signals,
    patience: float,
) -> None:
    (token,) = submit(timeline)
    waiters = [background(timeline.point(value).wait) for value in (1, 1, 2, 7)]
    until(lambda: signals.calls.count("query") >= 4)
    timeline.fail(Closed("the device was closed"))
    errors = [waiter.exception(patience) for waiter in waiters]
    assert {type(error) for error in errors} == {Closed}
    assert len({id(error) for error in errors}) == len(errors)
    token.finish()


def test_tokens_for_the_device_to_wait_on(timeline: Timeline) -> None:
    first, second = submit(timeline, 2)
    assert timeline.token(2) is second
    first.finish()
    assert timeline.completed == 1
    assert timeline.token(0) is timeline.token(1) is None
    with pytest.raises(UsageError, match="not submitted yet"):
        timeline.token(3)
    timeline.fail(KernelError("bad"))
    assert timeline.token(1) is None
    with pytest.raises(KernelError):
        timeline.token(2)


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


@pytest.mark.parametrize("seed", range(12))
def test_no_wake_up_is_lost(seed: int, background: Callable[..., Any], patience: float) -> None:
    """Threads, callbacks and polls against tokens that complete in an adversarial order on another thread."""
    draw = random.Random(seed)
    count, timeline = 60, Timeline("compute", Signals())
    failing = draw.choice([None, draw.randrange(count)])
    tokens = [Token() for _ in range(count)]
    told: list[tuple[int, Exception | None]] = []
    over = threading.Event()

    def settle(point: Any, error: Exception | None) -> None:
        told.append((point.value, error))
        if len(told) == count:
            over.set()

    def drive() -> None:
        window: list[Token] = []
        for number, token in enumerate(tokens):
            try:
                timeline.enqueue(lambda token=token: token)
            except ForgeError:
                return
            window.append(token)
            while len(window) > draw.randrange(1, 9):
                one = window.pop(draw.randrange(len(window)))
                one.finish(
                    KernelError(f"seed {seed}") if failing is not None and one is tokens[failing] else None
                )
            if number % 7 == 0:
                assert timeline.completed <= timeline.submitted
        for one in window:
            one.finish(
                KernelError(f"seed {seed}") if failing is not None and one is tokens[failing] else None
            )

    values = list(range(1, count + 1))
    draw.shuffle(values)
    waiters = {}
    for value in values[: count // 2]:
        waiters[value] = background(timeline.point(value).wait, patience)
    for value in values:
        timeline.point(value).on_done(settle)
    driving = background(drive)
    seen = [timeline.completed for _ in range(200)]
    assert seen == sorted(seen)
    driving.result(patience)
    assert over.wait(patience), f"seed {seed}: {len(told)} of {count} callbacks came"
    good = count if failing is None else failing
    for value, waiter in waiters.items():
        assert (waiter.exception(patience) is None) == (value <= good), f"seed {seed}, value {value}"
    assert sorted(value for value, _ in told) == list(range(1, count + 1))
    assert {value for value, error in told if error is None} == set(range(1, good + 1))
    assert timeline.completed == good
    assert all(token.retired == (number < good) for number, token in enumerate(tokens))
