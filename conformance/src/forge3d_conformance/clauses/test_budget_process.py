"""The budget of a process: its devices together stay within one limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.budget_model import LIMIT
from forge3d_core import global_tracker
from forge3d_core.errors import BudgetExceeded, BudgetExhausted
from forge3d_core.protocols import BudgetTracker, Device


@contextmanager
def _two(bench: Bench) -> Iterator[tuple[Device, Device]]:
    """Open two devices that may hold ``LIMIT`` each, in a process that may hold no more for both."""
    tracker = global_tracker()
    others = tracker.get_metrics().host_visible_bytes
    one, other = bench.open(budget=LIMIT), bench.open(budget=LIMIT)
    tracker.set_limit(others + LIMIT)
    try:
        yield one, other
    finally:
        tracker.set_limit(None)


@pytest.mark.clause("budget.process", requires=("driver",))
def test_devices_share_the_limit_of_the_process(bench: Bench) -> None:
    with _two(bench) as (one, other):
        most = LIMIT - (1 << 18)
        held = one.budget.reserve(most)
        for call in (other.budget.reserve, other.budget.check):
            with bench.raises(BudgetExhausted, f"{call!r} of what another device of the process holds"):
                call(most)
        other.budget.reserve(most, heap="device_local").release()
        bench.check(not global_tracker().room(most), "the process has room for what its devices hold")
        with other.budget.reserve(1 << 18):
            bench.check(
                global_tracker().get_metrics().available_bytes == 0,
                f"two devices hold the whole limit, and {global_tracker().get_metrics()!r}",
            )
        waiting = bench.thread(lambda: other.budget.reserve(most, timeout=bench.patience))
        held.release()
        bench.result(waiting, "a reservation that waits for what another device gives back").release()
        global_tracker().set_limit(global_tracker().limit - LIMIT // 2)
        with bench.raises((BudgetExceeded, BudgetExhausted), "more than the limit that was lowered"):
            one.budget.reserve(most)


@pytest.mark.clause("budget.process", requires=("driver",))
def test_idle_memory_of_other_devices_goes_back_before_a_refusal(bench: Bench) -> None:
    with _two(bench) as (one, other), one.readback_pool(max_pending_ops=1, buffer_size=LIMIT // 4):
        used = one.budget.metrics().host_visible_bytes
        bench.check(used >= LIMIT // 4, f"a pool with a block of {LIMIT // 4} bytes holds {used}")
        other.budget.reserve(LIMIT - LIMIT // 8).release()


@pytest.mark.clause("budget.process", requires=("driver",))
def test_the_figures_of_the_process_are_those_of_its_devices(bench: Bench) -> None:
    tracker = global_tracker()
    before = tracker.get_metrics()
    with _two(bench) as (one, other):
        buffer = one.create_buffer(5000)
        with other.staging_ring(ring_count=1, buffer_size=4096), other.budget.reserve(300, kind="texture"):
            parts, seen = [device.budget.metrics() for device in (one, other)], tracker.get_metrics()
            for name in ("buffer_count", "buffer_bytes", "texture_count", "texture_bytes", "total_bytes"):
                wanted = getattr(before, name) + sum(getattr(part, name) for part in parts)
                bench.check(
                    getattr(seen, name) == wanted,
                    f"{name} of the process is {getattr(seen, name)}, its devices have {wanted}",
                )
        peak = seen.total_bytes
        buffer.close()
        one.close()
        other.close()
        after = tracker.get_metrics()
        bench.check(
            after.total_bytes == before.total_bytes and after.peak_bytes >= peak,
            f"{after.total_bytes} bytes stay counted after their devices closed, {before.total_bytes} before",
        )


@pytest.mark.clause("budget.process", requires=("driver",))
def test_at_no_instant_do_devices_hold_more_than_the_process_may(bench: Bench) -> None:
    turns, lock = bench.scale(400, 5000), threading.Lock()
    held = highest = 0

    def user(budget: BudgetTracker, seed: int) -> None:
        nonlocal held, highest
        for turn in range(turns):
            nbytes = LIMIT // 3 + 97 * ((seed * turn) % 11)
            try:
                reservation = budget.reserve(nbytes)
            except BudgetExhausted:
                continue
            with lock:  # counted after it was taken and until before it goes back: never too much
                held += nbytes
                highest = max(highest, held)
            with lock:
                held -= nbytes
            reservation.release()

    with _two(bench) as (one, other), bench.racing():
        users = [bench.thread(user, (one, other)[n % 2].budget, n + 1) for n in range(4)]
        for thread in users:
            bench.result(thread, "a thread that reserves and releases")
    bench.check(highest <= LIMIT, f"two devices held {highest} bytes together, the process may {LIMIT}")
