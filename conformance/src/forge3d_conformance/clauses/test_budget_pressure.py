"""The budget under pressure: marks, a moving limit, waiting, reclaiming and the three refusals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.budget_model import LIMIT, held
from forge3d_conformance.violation import Tardy
from forge3d_conformance.waiting import PROMPT
from forge3d_core.errors import BudgetError, BudgetExceeded, BudgetExhausted, OutOfDeviceMemory
from forge3d_core.protocols import BudgetMetrics, BudgetTracker, Reservation


@pytest.mark.clause("budget.watermarks")
def test_a_watermark_calls_once_for_each_crossing(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    calls: dict[float, int] = {0.75: 0, 0.9: 0, 1.0: 0}

    def counted(mark: float) -> Callable[[BudgetMetrics], None]:
        def call(metrics: BudgetMetrics) -> None:
            calls[mark] += 1
            bench.check(
                metrics.host_visible_bytes >= mark * LIMIT,
                f"the mark at {mark} was called at {metrics.host_visible_bytes} of {LIMIT} bytes",
            )

        return call

    removers = {mark: tracker.on_watermark(mark, counted(mark)) for mark in calls}
    wanted = dict.fromkeys(calls, 0)
    above = dict.fromkeys(calls, False)
    held_now: list[Reservation] = []
    for percent in (10, 74, 75, 80, 74, 76, 95, 89, 91, 100, 0, 100, 50, 90, 75, 90):
        nbytes = -(-percent * LIMIT // 100)
        current = sum(one.nbytes for one in held_now)
        if nbytes > current:
            held_now.append(tracker.reserve(nbytes - current))
        elif nbytes < current:
            for one in held_now:
                one.release()
            for mark in calls:
                above[mark] = above[mark] and nbytes >= mark * LIMIT  # released to nothing first
            held_now = []
            above = dict.fromkeys(calls, False)
            if nbytes:
                held_now = [tracker.reserve(nbytes)]
        for mark in calls:
            if nbytes >= mark * LIMIT and not above[mark]:
                wanted[mark] += 1
                above[mark] = True
        bench.check(calls == wanted, f"at {percent} % the marks were called {calls}, not {wanted}")
    for one in held_now:
        one.release()
    for remove in removers.values():
        remove()
    with tracker.reserve(LIMIT):
        bench.check(calls == wanted, f"a removed mark was called: {calls}, not {wanted}")


@pytest.mark.clause("budget.watermarks")
def test_a_mark_calls_again_only_once_use_has_been_below_it(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    calls: dict[int, int] = {4: 0, 6: 0}  # marks, in eighths of the limit

    def counted(mark: int) -> Callable[[BudgetMetrics], None]:
        def call(_metrics: BudgetMetrics) -> None:
            calls[mark] += 1

        return call

    for mark in calls:
        tracker.on_watermark(mark / 8, counted(mark))
    wanted = dict.fromkeys(calls, 0)
    pieces: list[Reservation] = []
    for goal in (7, 6, 7, 5, 7, 4, 5, 4, 6, 3, 5, 4, 8, 6, 8, 0, 4):
        while len(pieces) > goal:
            pieces.pop().release()
        while len(pieces) < goal:
            pieces.append(tracker.reserve(LIMIT // 8))
            for mark in calls:
                wanted[mark] += len(pieces) == mark  # this one brought use from below the mark to it
        bench.check(
            calls == wanted,
            f"with {goal} eighths of the limit held, pieces given back one by one, the marks at 4 and 6 "
            f"eighths were called {calls}, not {wanted}",
        )
    for piece in pieces:
        piece.release()


@pytest.mark.clause("budget.watermarks")
def test_a_mark_is_called_outside_any_lock(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    late: list[Tardy] = []
    tracker.on_watermark(0.5, lambda _metrics: _others_go_on(bench, tracker, "a watermark's callback", late))
    with tracker.reserve(LIMIT):
        pass
    if late:
        raise late[0]


def _others_go_on(bench: Bench, tracker: BudgetTracker, inside: str, late: list[Tardy]) -> None:
    """Note in ``late`` if another thread's metrics have to wait for the caller to return."""
    try:
        bench.within(PROMPT, f"metrics of another thread, inside {inside},", tracker.metrics)
    except Tardy as error:  # the tracker may make nothing of what is raised here
        late.append(error)


@pytest.mark.clause("budget.watermarks")
def test_device_local_memory_crosses_no_mark(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    called: list[BudgetMetrics] = []
    tracker.on_watermark(0.5, called.append)
    with tracker.reserve(4 * LIMIT, heap="device_local"):
        bench.check(not called, "device-local memory crossed a mark on host-visible memory")


@pytest.mark.clause("budget.adjustable")
def test_the_limit_moves_while_memory_is_held(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    with tracker.reserve(LIMIT // 2) as first:
        tracker.set_limit(LIMIT // 4)
        seen = tracker.metrics()
        bench.check(
            tracker.limit == seen.limit_bytes == LIMIT // 4,
            f"the limit was set to {LIMIT // 4} and is {tracker.limit}",
        )
        bench.check(
            seen.host_visible_bytes == LIMIT // 2 and not first.released and not seen.within_budget,
            f"lowering the limit changed what is held to {seen.host_visible_bytes} bytes",
        )
        with bench.raises(BudgetExhausted, "a reservation above a lowered limit"):
            tracker.reserve(1)
        tracker.set_limit("1 MiB")
        tracker.reserve(LIMIT // 2).release()
        tracker.set_limit(LIMIT // 2)
        waiting = bench.thread(lambda: tracker.reserve(LIMIT // 4, timeout=bench.patience))
        bench.check(not waiting.done(), "a reservation above the limit did not wait")
        tracker.set_limit(LIMIT)
        bench.result(waiting, "a reservation that waits for a higher limit").release()


@pytest.mark.clause("budget.waits")
def test_waiting_reservations_all_get_through(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    turns = bench.scale(8, 60)

    def user(share: int) -> None:
        for _ in range(turns):
            with tracker.reserve(LIMIT // share, timeout=bench.patience):
                pass

    with tracker.reserve(LIMIT):  # so that every user's first turn has to wait
        users = [bench.thread(user, share) for share in (1, 2, 2, 3, 5)]
        threading.Event().wait(0.01)
        early = [thread for thread in users if thread.done()]
    bench.check(
        not early, f"{len(early)} waiting reservation(s) were refused while others gave back, or overshot"
    )
    for thread in users:
        try:
            bench.result(thread, "a waiting reservation")
        except BudgetError as error:
            bench.check(False, f"a waiting reservation was refused while others gave back: {error}")
    seen = tracker.metrics()
    bench.check(seen.host_visible_bytes == 0, "bytes stay reserved after every waiter gave back")
    bench.check(
        seen.peak_host_visible_bytes <= LIMIT,
        f"waiters took {seen.peak_host_visible_bytes} bytes at once under a limit of {LIMIT}",
    )


@pytest.mark.clause("budget.waits")
def test_who_waits_for_the_whole_limit_is_not_passed_over(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    turns, served = Turns(2), threading.Event()

    def user(me: int) -> None:
        while not served.is_set():
            with tracker.reserve(LIMIT // 2, timeout=bench.patience):
                turns.taken(me)  # so that some of the limit is always taken while these go on

    users = [bench.thread(user, me) for me in range(2)]
    bench.until(lambda: turns.total > 4, "two users of half the limit each")
    large = bench.thread(lambda: tracker.reserve(LIMIT, timeout=None).release())
    try:
        bench.result(large, "one who waits for the whole limit while others wait and take")
    finally:
        served.set()
    for thread in users:
        bench.result(thread, "a user of half the limit")


@attrs.define(eq=False)
class Turns:
    """Users that take turns, each of whom gives back only when another has taken again, or cannot."""

    users: int
    overlap: float = 0.2
    _counts: list[int] = attrs.field(init=False)
    _changed: threading.Condition = attrs.field(init=False, factory=threading.Condition)

    def __attrs_post_init__(self) -> None:
        self._counts = [0] * self.users

    @property
    def total(self) -> int:
        return sum(self._counts)

    def taken(self, me: int) -> None:
        with self._changed:
            self._counts[me] += 1
            self._changed.notify_all()
            goal = self.total + 1
            self._changed.wait_for(lambda: self.total >= goal, self.overlap)


@pytest.mark.clause("budget.waits")
def test_a_wait_for_nobody_ends_in_time(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    with tracker.reserve(LIMIT):
        for timeout in (0.0, 0.05):
            what = f"a reservation that waits {timeout} s for nobody"
            with bench.raises(BudgetExhausted, what):
                bench.within(timeout + PROMPT, what, partial(tracker.reserve, 1, timeout=timeout))
        with bench.raises(BudgetExceeded, "a wait for more than the limit"):
            bench.within(PROMPT, "a hopeless wait", partial(tracker.reserve, LIMIT + 1, timeout=None))


@pytest.mark.clause("budget.reclaim-first")
def test_reclaimers_are_asked_before_a_refusal(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    cache = [tracker.reserve(LIMIT // 4) for _ in range(4)]
    asked: list[int] = []
    late: list[Tardy] = []

    def reclaim(nbytes: int) -> int:
        asked.append(nbytes)
        tracker.metrics()  # outside any lock: this must not hang
        _others_go_on(bench, tracker, "a reclaimer", late)
        given = 0
        while cache and given < nbytes:
            one = cache.pop()
            given += one.nbytes
            one.release()
        return given

    remove = tracker.add_reclaimer(reclaim)
    got = bench.result(bench.thread(lambda: tracker.reserve(LIMIT // 2)), "a reservation that reclaims")
    bench.check(bool(asked), "a reclaimer was not asked")
    if late:
        raise late[0]
    bench.check(
        min(asked) >= LIMIT // 2, f"the reclaimer was asked for {asked} bytes where {LIMIT // 2} were short"
    )
    bench.check(len(cache) == 2, f"{len(cache)} of 4 cached pieces are left where 2 had to go")
    with bench.raises(BudgetExhausted, "a reservation that reclaiming cannot make room for"):
        tracker.reserve(LIMIT * 3 // 4)
    remove()
    asked.clear()
    with bench.raises(BudgetExhausted, "a reservation with no reclaimer left"):
        tracker.reserve(LIMIT)
    bench.check(not asked, "a removed reclaimer was asked")
    for one in (*cache, got):
        one.release()


@pytest.mark.clause("budget.reclaim-first")
def test_a_reclaimer_that_raises_is_in_nobodys_way(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    cache = [tracker.reserve(LIMIT)]

    def broken(_nbytes: int) -> int:
        raise LookupError("a reclaimer's own fault")

    def reclaim(_nbytes: int) -> int:
        one = cache.pop()
        one.release()
        return one.nbytes

    tracker.add_reclaimer(broken)
    with bench.raises(BudgetExhausted, "a reservation whose one reclaimer raises"):
        tracker.reserve(LIMIT)
    tracker.add_reclaimer(reclaim)
    try:
        tracker.reserve(LIMIT).release()
    except BudgetExhausted as error:
        bench.check(False, f"behind a reclaimer that raises the next was not asked: {error}")
    except LookupError as error:
        bench.check(False, f"a reservation raised its reclaimer's error: {error!r}")


@pytest.mark.clause("budget.reclaim-first")
def test_idle_readback_blocks_make_room(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    with device.readback_pool(max_pending_ops=4, buffer_size=LIMIT // 8) as pool:
        buffer = device.create_buffer(64)
        bench.check(len(pool.read(buffer).wait(bench.patience)) == 64, "a read returned other bytes")
        try:
            device.budget.reserve(LIMIT * 3 // 4).release()
        except BudgetExhausted as error:
            bench.check(False, f"idle readback blocks were not given back before a refusal: {error}")
        again = pool.read(buffer).wait(bench.patience)
        bench.check(len(again) == 64, "a pool whose blocks were reclaimed does not read any more")


@pytest.mark.clause("budget.three-refusals", requires=())
def test_too_much_and_too_much_for_now_are_told_apart(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    with bench.raises(BudgetExceeded, "more than the limit") as caught:
        tracker.reserve(LIMIT + 1)
    _says_figures(bench, caught)
    with tracker.reserve(1):
        with bench.raises(BudgetExhausted, "more than is left") as exhausted:
            tracker.reserve(LIMIT)
        _says_figures(bench, exhausted)
    tracker.reserve(LIMIT).release()


@pytest.mark.clause("budget.three-refusals")
def test_a_driver_without_memory_is_a_third_refusal(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    before = held(device.budget.metrics())
    bench.fail_next_allocation(device)
    with bench.raises(OutOfDeviceMemory, "a ring when the driver has no memory") as caught:
        device.staging_ring(ring_count=2, buffer_size=4096)
    bench.check(isinstance(caught[0], MemoryError), "OutOfDeviceMemory is no MemoryError")
    bench.check(
        held(device.budget.metrics()) == before, "an allocation that the driver refused stays counted"
    )
    device.staging_ring(ring_count=2, buffer_size=4096).close()


def _says_figures(bench: Bench, caught: list[Any]) -> None:
    for error in caught:
        bench.check(isinstance(error, MemoryError), f"{type(error).__name__} is no MemoryError")
        bench.check(any(c.isdigit() for c in str(error)), f"the refusal names no figures: {error}")
