"""The budget: what is refused, what a refusal leaves behind, and what check foretells."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.budget_model import LIMIT, held
from forge3d_core.errors import BudgetError, BudgetExhausted, OutOfDeviceMemory, TooLarge
from forge3d_core.protocols import BudgetMetrics, Device


@pytest.mark.clause("budget.hard-limit")
def test_no_thread_ever_sees_more_than_the_limit(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    tracker, piece = device.budget, LIMIT // 2 + 1  # two of them are too many
    start = threading.Barrier(6, timeout=bench.patience)
    linger, rounds = threading.Event(), bench.scale(300, 1000)

    def hammer(step: int) -> int:
        most = 0
        for i in range(rounds):
            if i % 5 == 0:
                start.wait()
            # Both ways in at once: who is refused when there is no room, and who waits for it a little.
            try:
                with tracker.reserve(piece + (i * step) % 1000, timeout=0.002 * ((i + step) % 2)):
                    if i % 5 < 2:
                        linger.wait(0.0002)  # held long enough for others to be refused, and to wait
                    most = max(most, tracker.metrics().host_visible_bytes)
            except BudgetExhausted:
                pass
        start.wait()
        for _ in range(5 * rounds):  # and as fast as they can
            try:
                with tracker.reserve(piece):
                    most = max(most, tracker.metrics().host_visible_bytes)
            except BudgetExhausted:
                pass
        return most

    with bench.racing():
        threads = [bench.thread(hammer, step) for step in range(1, 7)]
        seen = [bench.result(thread, "a reserving thread") for thread in threads]
    peak = tracker.metrics().peak_host_visible_bytes
    bench.check(max(*seen, peak) <= LIMIT, f"{max(*seen, peak)} bytes were reserved under a limit of {LIMIT}")
    bench.check(
        tracker.metrics().host_visible_bytes == 0,
        f"{tracker.metrics().host_visible_bytes} bytes stay reserved after every thread gave back",
    )


@pytest.mark.clause("budget.hard-limit")
def test_the_limit_is_512_mib_and_holds_for_all_that_a_device_makes(bench: Bench) -> None:
    limit = bench.open().budget.limit
    bench.check(limit == 512 * 1024**2, f"an unconfigured device has a limit of {limit} bytes")
    device = bench.open(budget=LIMIT)
    made: list[Any] = [device.staging_ring(ring_count=3, buffer_size=LIMIT // 16) for _ in range(3)]
    made.append(device.readback_pool(max_pending_ops=3, buffer_size=LIMIT // 16))
    with bench.raises(BudgetError, "rings beyond the limit"):
        made.extend(device.staging_ring(ring_count=3, buffer_size=LIMIT // 16) for _ in range(100))
    with bench.raises(BudgetError, "a pool beyond the limit"):
        made.append(device.readback_pool(max_pending_ops=32, buffer_size=LIMIT // 16))
    metrics = device.budget.metrics()
    bench.check(
        LIMIT // 2 <= metrics.host_visible_bytes <= metrics.peak_host_visible_bytes <= LIMIT,
        f"rings and pools filled the budget to {metrics.host_visible_bytes}, peak "
        f"{metrics.peak_host_visible_bytes}, limit {LIMIT}",
    )
    for one in made:
        one.close()


@pytest.mark.clause("budget.clean-refusal")
def test_a_refusal_leaves_no_trace(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    tracker = device.budget
    attempts: list[tuple[str, Callable[[], object]]] = [
        ("a reservation beyond the limit", lambda: tracker.reserve(LIMIT + 1)),
        ("a reservation beyond what is left", lambda: tracker.reserve(LIMIT)),
        ("a waiting reservation", lambda: tracker.reserve(LIMIT, timeout=0.01)),
        ("a ring", lambda: device.staging_ring(ring_count=8, buffer_size=LIMIT // 4)),
        ("a ring that can never fit", lambda: device.staging_ring(buffer_size=2 * LIMIT)),
        ("a pool", lambda: device.readback_pool(max_pending_ops=8, buffer_size=LIMIT // 4)),
    ]
    with tracker.reserve(LIMIT // 2):
        for what, attempt in attempts:
            before = tracker.metrics()
            with bench.raises(BudgetError, what):
                attempt()
            _no_trace(bench, device, before, what)
            after = tracker.metrics()
            bench.check(
                after.refusals > before.refusals, f"the refusal of {what} was not counted ({after.refusals})"
            )


@pytest.mark.clause("budget.clean-refusal")
def test_a_buffer_that_can_never_be_had_leaves_no_trace(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    before = device.budget.metrics()
    with bench.raises(TooLarge, "a buffer of more bytes than the device allows"):
        device.create_buffer(device.limits.max_buffer_size + 1)
    _no_trace(bench, device, before, "a buffer that is too large")


@pytest.mark.clause("budget.clean-refusal", requires=("host_pressure",))
def test_what_the_driver_refuses_leaves_no_trace(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    attempts: dict[str, Callable[[], Any]] = {
        "a buffer": lambda: device.create_buffer(4096),
        "a ring": lambda: device.staging_ring(ring_count=2, buffer_size=4096),
        "a pool": lambda: device.readback_pool(max_pending_ops=2, buffer_size=4096),
    }
    for what, attempt in attempts.items():
        before = device.budget.metrics()
        bench.fail_next_allocation(device)
        try:
            made = attempt()
        except OutOfDeviceMemory:
            pass
        else:  # the pressure is on host-visible memory, and here a buffer has none
            bench.check(what == "a buffer", f"{what} was made of memory that the driver refused")
            made.close()
            with bench.raises(OutOfDeviceMemory, "a ring when the driver has no memory"):
                attempts["a ring"]()
        _no_trace(bench, device, before, f"{what} by the driver")


def _no_trace(bench: Bench, device: Device, before: BudgetMetrics, what: str) -> None:
    gc.collect()
    after = device.budget.metrics()
    bench.check(
        held(after) == held(before),
        f"after the refusal of {what} {after.total_bytes} bytes are reserved, before {before.total_bytes}",
    )


@pytest.mark.clause("budget.check")
def test_check_foretells_reserve_and_takes_nothing(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    tracker = device.budget
    with tracker.reserve(LIMIT // 4 + 3):
        left = LIMIT - tracker.metrics().host_visible_bytes
        for nbytes in (0, 1, left - 1, left, left + 1, LIMIT, LIMIT + 1, 10 * LIMIT):
            before = tracker.metrics()
            told = _outcome(partial(tracker.check, nbytes))
            bench.check(tracker.metrics() == before, f"check({nbytes}) changed the metrics")
            done = _outcome(lambda: tracker.reserve(nbytes).release())  # noqa: B023
            bench.check(told == done, f"check({nbytes}) says {told} and reserve does {done}")
        asked: list[int] = []

        def reclaim(nbytes: int) -> int:
            asked.append(nbytes)
            return 0

        tracker.add_reclaimer(reclaim)
        with bench.raises(BudgetExhausted, "check of more than is left"):
            tracker.check(left + 1)
        bench.check(not asked, f"check asked a reclaimer for {asked} bytes")


def _outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except BudgetError as error:
        return type(error).__name__
    return "yes"
