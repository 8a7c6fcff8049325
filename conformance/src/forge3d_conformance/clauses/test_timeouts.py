"""One rule for every timeout, whichever call waits."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import fill
from forge3d_conformance.clauses.sources import take
from forge3d_conformance.holding import Holding
from forge3d_conformance.waiting import PROMPT
from forge3d_core.errors import BudgetExhausted, FenceTimeout, UsageError
from forge3d_core.protocols import AsyncReadbackConfig

BLOCK = 4096

REFUSED: tuple[Any, ...] = (math.nan, np.float32("nan"), "1", True, 1j)
AT_ONCE: tuple[Any, ...] = (1e-9, 0.0004, -1, -math.inf, np.float64(-0.5), np.int8(0))
FOR_EVER: tuple[Any, ...] = (None, math.inf, 1e300, 10**400, np.float32("inf"))


def rule(
    bench: Bench,
    hold: Holding | None,
    what: str,
    call: Callable[[Any], object],
    error: type[Exception],
) -> list[tuple[str, Future[object]]]:
    """Check ``call(timeout)``, which nothing lets succeed yet; return the calls that wait for that."""

    def observe(call: Callable[..., Any], *args: Any) -> Any:
        return hold.observe(call, *args) if hold is not None else call(*args)

    for value in REFUSED:
        with bench.raises(UsageError, f"{what} with a timeout of {value!r}"):
            bench.within(PROMPT, f"{what} with a timeout of {value!r}", call, value)
    for value in AT_ONCE:
        with bench.raises(error, f"{what} with a timeout of {value!r}"):
            observe(bench.within, PROMPT, f"{what} with a timeout of {value!r}", call, value)
    waiting = [
        (f"{what} with a timeout of {str(value)[:6]}", bench.thread(call, value)) for value in FOR_EVER
    ]
    threading.Event().wait(0.05)
    for name, one in waiting:
        if observe(one.done):
            bench.result(one, name)
            bench.check(False, f"{name} did not wait")
    return waiting


def come(bench: Bench, waiting: list[tuple[str, Future[object]]]) -> None:
    for name, one in waiting:
        bench.result(one, name)


@pytest.mark.clause("fence.timeout")
def test_a_wait_for_a_point_takes_any_number_of_seconds(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(BLOCK)
    with bench.hold(device, "compute", 2.0) as hold:
        point = fill(device, buffer, 1)
        waiting = rule(bench, hold, "a wait", point.wait, FenceTimeout)
        waiting += rule(bench, hold, "wait_idle", device.wait_idle, FenceTimeout)
    come(bench, waiting)


@pytest.mark.clause("ring.reserve-waits")
def test_a_wait_for_room_takes_any_number_of_seconds(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(BLOCK)
    ring = device.staging_ring(ring_count=1, buffer_size=BLOCK)
    data = np.ones(BLOCK, np.uint8)
    with bench.hold(device, "upload", 2.0) as hold:
        ring.upload(data, buffer)
        waiting = rule(bench, hold, "reserve", lambda t: ring.reserve(64, t).release(), FenceTimeout)
        waiting += rule(bench, hold, "upload", lambda t: ring.upload(data, buffer, timeout=t), FenceTimeout)
    come(bench, waiting)


@pytest.mark.clause("readback.backpressure")
def test_a_wait_for_a_block_takes_any_number_of_seconds(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(BLOCK)
    for value in REFUSED:
        with bench.raises(UsageError, f"a pool with a timeout of {value!r}"):
            device.readback_pool(timeout=value)
    config = AsyncReadbackConfig(max_pending_ops=1, buffer_size=BLOCK)
    pools = {value: device.readback_pool(config, timeout=value) for value in (*AT_ONCE, *FOR_EVER)}
    with bench.hold(device, "download", 2.0) as hold:
        first = [pool.read(buffer) for pool in pools.values()]
        waiting = {value: bench.thread(pools[value].read, buffer) for value in FOR_EVER}
        for value in AT_ONCE:
            with bench.raises(FenceTimeout, f"a read of a full pool with a timeout of {value!r}"):
                hold.observe(bench.within, PROMPT, "a read of a full pool", pools[value].read, buffer)
        for value, one in waiting.items():
            early = hold.observe(one.done)
            bench.check(not early, f"a read of a full pool with a timeout of {value!r} did not wait")
    for handle in first:
        take(bench, handle)
    for one in waiting.values():
        take(bench, bench.result(one, "a read of a full pool"))


@pytest.mark.clause("readback.not-early")
def test_a_wait_for_bytes_takes_any_number_of_seconds(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(BLOCK)
    pool = device.readback_pool(buffer_size=BLOCK)
    with bench.hold(device, "download", 2.0) as hold:
        taken, leased = pool.read(buffer), pool.read(buffer)
        waiting = rule(bench, hold, "a wait for a read", taken.wait, FenceTimeout)
        for value in REFUSED:
            with bench.raises(UsageError, f"a lease with a timeout of {value!r}"):
                bench.within(PROMPT, f"a lease with a timeout of {value!r}", leased.lease, value)
        for value in AT_ONCE:
            with bench.raises(FenceTimeout, f"a lease with a timeout of {value!r}"):
                hold.observe(bench.within, PROMPT, "a lease", leased.lease, value)
    come(bench, waiting)


@pytest.mark.clause("budget.waits")
def test_a_wait_for_memory_takes_any_number_of_seconds(bench: Bench) -> None:
    tracker = bench.open(budget=BLOCK).budget
    with tracker.reserve(BLOCK):
        waiting = rule(
            bench,
            None,
            "a reservation",
            lambda timeout: tracker.reserve(BLOCK, timeout=timeout).release(),
            BudgetExhausted,
        )
    come(bench, waiting)
