"""An interrupt at any point, or a finalizer that gives back meanwhile: the figures stay exact."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

import forge3d_core.memory.budget
from forge3d_core.device.device import assemble
from forge3d_core.errors import BudgetExhausted
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.memory.budget import Ledger, LedgerReservation
from forge3d_core.memory.entry import Held
from forge3d_core.protocols import BudgetMetrics

from ..interrupts import everywhere


def take(ledger: Ledger) -> None:
    ledger.reserve(40).release()


def take_in_turn(ledger: Ledger) -> None:
    ledger.reserve(40, timeout=20.0).release()


def be_refused(ledger: Ledger) -> None:
    with pytest.raises(BudgetExhausted):
        ledger.reserve(80)


def wait_in_vain(ledger: Ledger) -> None:
    with pytest.raises(BudgetExhausted):
        ledger.reserve(80, timeout=1e-6)


def take_what_a_reclaimer_has(ledger: Ledger) -> None:
    kept = [ledger.reserve(30)]

    def reclaim(_nbytes: int) -> int:
        kept[0].release()
        return kept[0].nbytes

    ledger._reclaimers[:] = [reclaim]
    ledger.reserve(60).release()
    ledger._reclaimers.clear()


def drop(ledger: Ledger) -> None:
    ledger.reserve(40)
    ledger.metrics()


def cross_a_mark(ledger: Ledger) -> None:
    ledger.reserve(60).release()


@pytest.mark.parametrize(
    "use",
    [take, take_in_turn, be_refused, wait_in_vain, take_what_a_reclaimer_has, drop, cross_a_mark],
    ids=lambda use: use.__name__,
)
def test_an_interrupt_costs_nobody_room(ledger: Ledger, use: Callable[[Ledger], None]) -> None:
    ledger.on_watermark(0.7, lambda _metrics: None)
    held = ledger.reserve(25)
    want = ledger.metrics()
    for point in everywhere(lambda: use(ledger), forge3d_core.memory.budget, threading):
        ledger._reclaimers.clear()
        gc.collect(0)
        now = ledger.metrics()
        assert (now.host_visible_bytes, now.total_bytes, now.buffer_bytes, now.buffer_count) == (
            want.host_visible_bytes,
            want.total_bytes,
            want.buffer_bytes,
            want.buffer_count,
        ), f"interrupted at point {point}"
        assert not ledger._waiting, f"a ticket is left after point {point}: who comes next waits for ever"
        ledger.reserve(75, timeout=20.0).release()
    held.release()
    assert ledger.metrics().total_bytes == 0


@pytest.mark.parametrize("step", ["with_entry", "without_entry"])
def test_what_a_finalizer_gives_back_in_the_middle_of_a_change_is_counted(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The collector runs finalizers between any two calls, on the thread that has the lock."""
    found_dead = [ledger.reserve(10), ledger.reserve(20)]
    held = ledger.reserve(30)
    real = getattr(forge3d_core.memory.budget, step)

    def with_a_collection(now: Held, *entry: Any) -> Held:
        after: Held = real(now, *entry)
        if found_dead:
            found_dead.pop().release()
        return after

    monkeypatch.setattr(forge3d_core.memory.budget, step, with_a_collection)
    other = ledger.reserve(5)
    held.release()
    assert not found_dead
    assert ledger.metrics().host_visible_bytes == 5
    other.release()
    assert ledger.metrics().total_bytes == 0


def test_finalizers_that_close_what_they_own(background: Callable[..., Any], patience: float) -> None:
    """Owners in cycles, which the collector finds wherever it happens to run, on any thread."""

    class Owner:
        def __init__(self, owned: Any) -> None:
            self.owned = owned
            self.cycle = self

        def __del__(self) -> None:
            self.owned.close() if hasattr(self.owned, "close") else self.owned.release()

    device = assemble(HostDriver(HostMachine()))
    barrier = threading.Barrier(4)

    def churn() -> None:
        barrier.wait(patience)
        for turn in range(60):
            Owner(device.budget.reserve(10 + turn))
            Owner(device.create_buffer(64))
            if turn % 10 == 0:
                Owner(device.staging_ring(ring_count=2, buffer_size=4096))

    threshold = gc.get_threshold()
    gc.set_threshold(7, 2, 2)
    try:
        for thread in [background(churn) for _ in range(4)]:
            thread.result(patience)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    device.wait_idle(patience)
    metrics = device.budget.metrics()
    assert (metrics.total_bytes, metrics.buffer_count) == (0, 0)
    device.close()


def test_a_reservation_is_released_until_it_is_held(ledger: Ledger) -> None:
    seen: list[bool] = []

    def look(_metrics: BudgetMetrics) -> None:
        seen.extend(entry.held for entry in ledger._held.values())

    ledger.on_watermark(0.5, look)
    held: LedgerReservation = ledger.reserve(60)
    assert seen == [True]
    assert not held.released
    held.release()
    assert held.released
