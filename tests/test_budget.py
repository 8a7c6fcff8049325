from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forge3d_core.budget import DEFAULT_LIMIT, Ledger, LedgerReservation
from forge3d_core.errors import BudgetExceeded, BudgetExhausted, UsageError
from forge3d_core.protocols import BudgetMetrics, BudgetTracker, Reservation
from forge3d_core.units import MIB


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(100)


def test_the_ledger_satisfies_its_protocols(ledger: Ledger) -> None:
    assert isinstance(ledger, BudgetTracker)
    assert isinstance(ledger.reserve(1), Reservation)


def test_the_limit_is_512_mib_unless_configured() -> None:
    assert Ledger().limit == DEFAULT_LIMIT == 512 * MIB
    assert Ledger("1 KiB").limit == 1024


def test_kinds_and_heaps_are_told_apart(ledger: Ledger) -> None:
    held = [
        ledger.reserve(10),
        ledger.reserve(20, kind="texture"),
        ledger.reserve(1000, heap="device_local"),
        ledger.reserve(2000, kind="texture", heap="device_local"),
    ]
    assert ledger.metrics() == BudgetMetrics(2, 1010, 2, 2020, 30, 3000, 3030, 3030, 30, 100, 0)
    assert [(r.nbytes, r.kind, r.heap, r.released) for r in held[:2]] == [
        (10, "buffer", "host_visible", False),
        (20, "texture", "host_visible", False),
    ]
    for reservation in held:
        reservation.release()
        assert reservation.released
    assert ledger.metrics() == BudgetMetrics(0, 0, 0, 0, 0, 0, 0, 3030, 30, 100, 0)


def test_use_against_the_limit(ledger: Ledger) -> None:
    ledger_none = Ledger(0)
    assert (ledger_none.metrics().utilization, ledger_none.metrics().within_budget) == (0.0, True)
    held = ledger.reserve(75)
    assert ledger.metrics().utilization == 0.75
    ledger.set_limit(50)
    assert not ledger.metrics().within_budget
    held.release()


def test_the_limit_itself_fits_and_a_byte_more_never_does(ledger: Ledger) -> None:
    ledger.reserve(100).release()
    with pytest.raises(BudgetExceeded, match=r"101 B.*whole budget of 100 B"):
        ledger.reserve(101)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(101, timeout=None)  # no wait would help
    with pytest.raises(MemoryError):
        ledger.check(101)


def test_a_refusal_leaves_no_trace_but_its_count(ledger: Ledger) -> None:
    held = ledger.reserve(60)
    before = ledger.metrics()
    with pytest.raises(BudgetExhausted, match=r"41 B.*60 B of 100 B"):
        ledger.reserve(41)
    with pytest.raises(BudgetExhausted):
        ledger.check(41)
    ledger.check(40)
    ledger.check(10_000, heap="device_local")
    after = ledger.metrics()
    assert after.refusals == 1
    assert (after.total_bytes, after.peak_bytes, after.buffer_count) == (
        before.total_bytes,
        before.peak_bytes,
        before.buffer_count,
    )
    held.release()


def test_nothing_fits_in_no_budget() -> None:
    ledger = Ledger(0)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(1)
    ledger.reserve(0).release()
    ledger.reserve(1, heap="device_local").release()


def test_releasing_is_once(ledger: Ledger) -> None:
    with ledger.reserve(60) as held:
        held.release()
        other = ledger.reserve(60)
        held.release()
    assert ledger.metrics().host_visible_bytes == 60
    other.release()


def test_a_dropped_reservation_gives_back(ledger: Ledger) -> None:
    held = ledger.reserve(100)
    del held
    gc.collect()
    ledger.reserve(100).release()
    assert ledger.metrics().total_bytes == 0


@pytest.mark.parametrize(
    "wrong", [{"nbytes": -1}, {"nbytes": 1.5}, {"nbytes": 1, "kind": "mesh"}, {"nbytes": 1, "heap": "stack"}]
)
def test_what_is_no_reservation(ledger: Ledger, wrong: Any) -> None:
    with pytest.raises(UsageError):
        ledger.reserve(**wrong)
    assert ledger.metrics().buffer_count == 0


def test_the_limit_can_be_changed(ledger: Ledger) -> None:
    held = ledger.reserve(80)
    ledger.set_limit(40)
    with pytest.raises(BudgetExhausted):
        ledger.reserve(1)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(41)
    held.release()
    ledger.reserve(40).release()
    ledger.set_limit("1 KiB")
    assert ledger.limit == ledger.metrics().limit_bytes == 1024
    ledger.reserve(1024).release()
    with pytest.raises(UsageError):
        ledger.set_limit(-1)


def test_reclaimers_are_asked_before_a_refusal(ledger: Ledger) -> None:
    kept = [ledger.reserve(30), ledger.reserve(30), ledger.reserve(30)]
    asked: list[int] = []

    def reclaim(nbytes: int) -> int:
        asked.append(nbytes)
        given = 0
        while kept and given < nbytes:
            given += kept[-1].nbytes
            kept.pop().release()
        return given

    forget = ledger.add_reclaimer(reclaim)
    held = ledger.reserve(50)
    assert asked == [40]
    assert len(kept) == 1
    assert ledger.metrics().refusals == 0
    with pytest.raises(BudgetExceeded):
        ledger.reserve(101)
    assert len(kept) == 1, "given back for what can never fit"
    forget()
    forget()
    with pytest.raises(BudgetExhausted):
        ledger.reserve(50)
    assert len(asked) == 1
    held.release()


def test_a_reclaimer_may_use_the_ledger(ledger: Ledger) -> None:
    kept = ledger.reserve(100)

    def reclaim(_nbytes: int) -> int:
        with pytest.raises(BudgetExhausted):
            ledger.check(1)
        kept.release()
        return 100

    ledger.add_reclaimer(reclaim)
    ledger.reserve(100).release()


def test_watermarks_call_once_per_crossing(ledger: Ledger) -> None:
    seen: list[tuple[float, int]] = []
    forget = [
        ledger.on_watermark(mark, lambda metrics, mark=mark: seen.append((mark, metrics.host_visible_bytes)))
        for mark in (0.75, 0.90)
    ]
    low = ledger.reserve(74)
    ledger.reserve(1000, heap="device_local").release()
    assert not seen
    one = ledger.reserve(1)
    more = ledger.reserve(10)
    assert seen == [(0.75, 75)]
    top = ledger.reserve(15)
    assert seen == [(0.75, 75), (0.90, 100)]
    top.release()
    top = ledger.reserve(15)
    assert seen[2:] == [(0.90, 100)]
    for held in (top, more, one):
        held.release()
    ledger.set_limit(80)
    assert seen[3:] == [(0.75, 74), (0.90, 74)]
    ledger.set_limit(100)
    for remove in forget:
        remove()
    ledger.reserve(20).release()
    assert len(seen) == 5
    low.release()


def test_a_watermark_already_passed_is_told_at_once_and_may_use_the_ledger(ledger: Ledger) -> None:
    held = ledger.reserve(90)
    seen: list[int] = []

    def callback(_metrics: BudgetMetrics) -> None:
        seen.append(ledger.metrics().host_visible_bytes)

    ledger.on_watermark(0.5, callback)
    assert seen == [90]
    held.release()


def test_a_callback_that_raises_costs_no_reservation(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_metrics: BudgetMetrics) -> None:
        raise RuntimeError("somebody's mistake")

    ledger.on_watermark(0.5, fail)
    ledger.reserve(60).release()
    assert ledger.metrics().host_visible_bytes == 0
    assert "somebody's mistake" in caplog.text


@pytest.mark.parametrize("fraction", [0, -1, 1.1, float("nan")])
def test_marks_are_fractions(ledger: Ledger, fraction: float) -> None:
    with pytest.raises(UsageError, match="fraction"):
        ledger.on_watermark(fraction, lambda _metrics: None)


def test_waiting_for_room_makes_progress(
    ledger: Ledger, background: Callable[..., Any], patience: float
) -> None:
    held = ledger.reserve(80)
    waiting = background(ledger.reserve, 50, timeout=patience)
    with pytest.raises(BudgetExhausted):
        ledger.reserve(50, timeout=0.001)
    assert not waiting.done()
    held.release()
    waiting.result(patience).release()
    assert ledger.metrics().refusals == 1


def test_waiters_are_served_in_order(
    ledger: Ledger, background: Callable[..., Any], until: Callable[..., None], patience: float
) -> None:
    """The large request that came first is not starved by small ones that would fit earlier."""
    held = [ledger.reserve(20) for _ in range(5)]
    order: list[int] = []

    def reserve(number: int, nbytes: int) -> LedgerReservation:
        reservation = ledger.reserve(nbytes, timeout=patience)
        order.append(number)
        return reservation

    waiting = []
    for number, nbytes in enumerate((60, 10, 10)):
        waiting.append(background(reserve, number, nbytes))
        until(lambda number=number: len(ledger._waiting) == number + 1)
    for reservation in held[:4]:
        reservation.release()
    got = [one.result(patience) for one in waiting]
    assert order[0] == 0
    for reservation in (*got, held[4]):
        reservation.release()


def test_a_raised_limit_wakes_who_waits(
    ledger: Ledger, background: Callable[..., Any], until: Any, patience: float
) -> None:
    held = ledger.reserve(100)
    waiting = background(ledger.reserve, 50, timeout=None)
    until(lambda: len(ledger._waiting) == 1)
    ledger.set_limit(150)
    waiting.result(patience).release()
    refused = background(ledger.reserve, 60, timeout=None)
    until(lambda: len(ledger._waiting) == 1)
    ledger.set_limit(59)
    assert isinstance(refused.exception(patience), BudgetExceeded)
    held.release()


def test_no_thread_ever_passes_the_limit(background: Callable[..., Any], patience: float) -> None:
    """Two independent judges: a watermark callback, and a count that is kept outside the ledger."""
    limit, ledger = 1000, Ledger(1000)
    lock, outside, worst = threading.Lock(), 0, 0
    seen: list[BudgetMetrics] = []
    ledger.on_watermark(0.9, seen.append)
    barrier = threading.Barrier(8)

    def hammer(seed: int) -> int:
        nonlocal outside, worst
        draw = np.random.default_rng(seed)
        refused = 0
        held: list[LedgerReservation] = []

        def release() -> None:
            nonlocal outside
            one = held.pop(int(draw.integers(0, len(held))))
            with lock:  # counted down first, so that the count never exceeds what the ledger holds
                outside -= one.nbytes
            one.release()

        barrier.wait(patience)
        for _ in range(300):
            try:
                one = ledger.reserve(int(draw.integers(1, 250)), timeout=float(draw.choice([0.0, 0.001])))
            except BudgetExhausted:
                refused += 1
                if held:
                    release()
                continue
            with lock:
                outside += one.nbytes
                worst = max(worst, outside)
            held.append(one)
            if draw.random() < 0.6:
                release()
        while held:
            release()
        return refused

    refused = sum(thread.result(patience) for thread in [background(hammer, seed) for seed in range(8)])
    metrics = ledger.metrics()
    assert worst <= limit
    assert metrics.peak_host_visible_bytes <= limit
    assert all(metrics.host_visible_bytes <= limit for metrics in seen)
    assert (metrics.total_bytes, metrics.buffer_count, metrics.refusals) == (0, 0, refused)
    assert worst > limit // 2, "nothing was contended"


class LedgerModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.limit = 1000
        self.ledger = Ledger(self.limit)
        self.held: list[LedgerReservation] = []
        self.rows: list[tuple[int, str, str]] = []
        self.refusals = self.peak = self.peak_host = 0
        self.calls: list[int] = []
        self.ledger.on_watermark(0.75, lambda metrics: self.calls.append(metrics.host_visible_bytes))
        self.above = False
        self.crossings = 0

    def total(self, **where: str) -> int:
        return sum(
            n
            for n, kind, heap in self.rows
            if where.get("kind", kind) == kind and where.get("heap", heap) == heap
        )

    def note(self) -> None:
        host = self.total(heap="host_visible")
        self.peak, self.peak_host = max(self.peak, self.total()), max(self.peak_host, host)
        above = host > 0 and host * 4 >= self.limit * 3
        self.crossings += above and not self.above
        self.above = above

    @rule(
        nbytes=st.integers(0, 1200),
        kind=st.sampled_from(["buffer", "texture"]),
        heap=st.sampled_from(["host_visible", "host_visible", "device_local"]),
        ask=st.booleans(),
    )
    def reserve(self, nbytes: int, kind: Any, heap: Any, ask: bool) -> None:
        error: type[Exception] | None = None
        if heap == "host_visible" and nbytes > self.limit:
            error = BudgetExceeded
        elif heap == "host_visible" and self.total(heap=heap) + nbytes > self.limit:
            error = BudgetExhausted

        def call() -> Any:
            return (
                self.ledger.check(nbytes, heap=heap)
                if ask
                else self.ledger.reserve(nbytes, kind=kind, heap=heap)
            )

        if error is not None:
            self.refusals += not ask
            with pytest.raises(error):
                call()
            return
        made = call()
        if not ask:
            self.held.append(made)
            self.rows.append((nbytes, kind, heap))
            self.note()

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99), drop=st.booleans())
    def give_back(self, which: int, drop: bool) -> None:
        which %= len(self.held)
        reservation = self.held.pop(which)
        self.rows.pop(which)
        if not drop:
            reservation.release()
            reservation.release()
        del reservation
        gc.collect(0)
        self.ledger.metrics()  # a dropped one is noticed when somebody asks
        self.note()

    @rule(limit=st.integers(0, 1500))
    def set_limit(self, limit: int) -> None:
        self.limit = limit
        self.ledger.set_limit(limit)
        self.note()

    @invariant()
    def metrics_are_the_models(self) -> None:
        assert self.ledger.metrics() == BudgetMetrics(
            buffer_count=sum(kind == "buffer" for _, kind, _ in self.rows),
            buffer_bytes=self.total(kind="buffer"),
            texture_count=sum(kind == "texture" for _, kind, _ in self.rows),
            texture_bytes=self.total(kind="texture"),
            host_visible_bytes=self.total(heap="host_visible"),
            device_local_bytes=self.total(heap="device_local"),
            total_bytes=self.total(),
            peak_bytes=self.peak,
            peak_host_visible_bytes=self.peak_host,
            limit_bytes=self.limit,
            refusals=self.refusals,
        )
        assert len(self.calls) == self.crossings


TestLedgerModel = LedgerModel.TestCase
TestLedgerModel.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
