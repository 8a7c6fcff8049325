"""Who waits for room: served in order, woken by a new limit, and never past it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.errors import BudgetExceeded, BudgetExhausted
from forge3d_core.memory.budget import Ledger, LedgerReservation
from forge3d_core.protocols import BudgetMetrics


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


def test_who_may_wait_does_not_overtake_who_waits(
    ledger: Ledger, background: Callable[..., Any], until: Callable[..., None], patience: float
) -> None:
    """Small ones, each ready to wait, would keep the large one waiting for ever between them."""
    held = ledger.reserve(60)
    large = background(ledger.reserve, 80, timeout=patience)
    until(lambda: len(ledger._waiting) == 1)
    small = background(ledger.reserve, 30, timeout=patience)
    until(lambda: len(ledger._waiting) == 2 or small.done())
    with pytest.raises(BudgetExhausted):
        ledger.reserve(30, timeout=0.001)  # in its turn, and that does not come
    assert not small.done(), "it took what fits, before somebody who came first"
    ledger.reserve(30).release()  # without waiting, what fits is had at once
    ledger.reserve(1000, heap="device_local", timeout=patience).release()  # nobody waits for that
    held.release()
    got = large.result(patience)
    assert not small.done()
    got.release()
    small.result(patience).release()


@pytest.mark.parametrize("inner", [10, 50])
def test_a_reclaimer_that_waits_does_not_wait_for_its_own_thread(
    ledger: Ledger, background: Callable[..., Any], patience: float, inner: int
) -> None:
    """It runs while the one that wants memory is first in line."""
    kept = [ledger.reserve(50), ledger.reserve(40)]

    def reclaim(_nbytes: int) -> int:
        forget()
        kept.pop(0).release()
        with ledger.reserve(inner, timeout=patience):
            return 50

    forget = ledger.add_reclaimer(reclaim)
    background(ledger.reserve, 60, timeout=None).result(patience).release()
    kept.pop().release()


def test_a_watermark_is_told_when_the_place_in_line_is_given_up(
    ledger: Ledger, background: Callable[..., Any], patience: float
) -> None:
    def callback(_metrics: BudgetMetrics) -> None:
        background(ledger.reserve, 10, timeout=None).result(patience).release()

    ledger.on_watermark(0.5, callback)
    ledger.reserve(60, timeout=patience).release()
    assert not ledger._waiting


def test_a_timeout_without_end(ledger: Ledger, background: Callable[..., Any], patience: float) -> None:
    held = ledger.reserve(100)
    waiting = background(ledger.reserve, 10, timeout=float("inf"))
    held.release()
    waiting.result(patience).release()
    with ledger.reserve(100), pytest.raises(BudgetExhausted):
        ledger.reserve(1, timeout=-1.0)


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
