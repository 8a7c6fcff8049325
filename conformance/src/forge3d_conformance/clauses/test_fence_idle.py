"""Fences: who waits for the device uses no processor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import asleep, fill, unsubmitted
from forge3d_conformance.clauses.processor import clock_beside, least_share, share, whole_process
from forge3d_conformance.clauses.staging import BLOCK
from forge3d_core.protocols import FencePoint, ReadbackHandle

SPAN = 0.25
"""Seconds over which processor time is measured."""

MOST = 0.1
"""The share of a core that a wait may use: several times what asking now and then takes.

On a GPU what the process used before the device was opened does not count: NVIDIA's Vulkan driver takes
one per cent for each device that the garbage collector has yet to find.
"""


@pytest.mark.clause("fence.idle-wait", requires=())
def test_a_wait_for_the_future_burns_no_core(bench: Bench) -> None:
    others = share(whole_process, SPAN)
    device = bench.open()
    buffer = device.create_buffer(256)
    with waited(bench, *waiters(bench, unsubmitted(device))):
        used = least_share(whole_process, SPAN) - others
        fill(device, buffer, 1)
    bench.check(used < MOST, f"waits for a value not submitted use {used:.0%} of a core")


@pytest.mark.clause("fence.idle-wait")
def test_a_wait_on_a_held_lane_burns_no_core(bench: Bench) -> None:
    others = share(whole_process, SPAN)
    device = bench.open()
    buffer = device.create_buffer(256)
    with bench.hold(device, "compute", 1.0) as hold:
        point = fill(device, buffer, 1)
        clock = clock_beside(device)
        if clock is None:
            return  # the test above is all that can be told here
        with waited(bench, *waiters(bench, point)):
            used = hold.observe(least_share, clock, SPAN) - (others if clock is whole_process else 0.0)
            hold.release()
    bench.check(used < MOST, f"waits on a held lane use {used:.0%} of a core")


@pytest.mark.clause("fence.idle-wait")
@pytest.mark.parametrize("call", ["reserve", "wait", "await", "read"])
def test_a_call_that_waits_for_the_device_burns_no_core(bench: Bench, call: str) -> None:
    others = share(whole_process, SPAN)
    device = bench.open()
    buffer = device.create_buffer(BLOCK)
    lane = "upload" if call == "reserve" else "download"
    ring = device.staging_ring(ring_count=1, buffer_size=BLOCK)
    pool = device.readback_pool(max_pending_ops=1, buffer_size=BLOCK, timeout=bench.patience)
    with bench.hold(device, lane, 1.0) as hold:
        if call == "reserve":
            ring.upload(np.ones(BLOCK, np.uint8), buffer)
            waiting: Callable[[], object] = partial(ring.reserve, BLOCK, bench.patience)
        else:
            handle = pool.read(buffer)
            calls: dict[str, Callable[[], object]] = {
                "wait": partial(handle.wait, bench.patience),
                "await": lambda: bench.run(arrived(handle)),
                "read": lambda: pool.read(buffer).wait(bench.patience),
            }
            waiting = calls[call]
        clock = clock_beside(device)
        if clock is None:
            return  # as above
        waiter = bench.thread(waiting)
        with waited(bench, waiter):
            used = hold.observe(least_share, clock, SPAN) - (others if clock is whole_process else 0.0)
            early = hold.observe(waiter.done)
            hold.release()
    bench.check(not early, f"{CALLS[call]} came back while the device still held what it waits for")
    bench.check(used < MOST, f"{CALLS[call]} uses {used:.0%} of a core")
    bench.result(waiter, CALLS[call])


CALLS = {
    "reserve": "reserve on a full ring",
    "wait": "wait of a handle",
    "await": "an await of a handle",
    "read": "a read of a full pool",
}


async def arrived(handle: ReadbackHandle) -> None:
    await handle


def waiters(bench: Bench, point: FencePoint) -> list[futures.Future[None]]:
    return [bench.thread(point.wait, bench.patience), bench.thread(asleep, bench, point)]


@contextmanager
def waited(bench: Bench, *waiting: futures.Future[Any]) -> Iterator[None]:
    """Take the time of threads that wait; what they wait for should come by the end of the block."""
    threading.Event().wait(0.05)  # what it takes to begin is not what is measured
    try:
        yield
    finally:
        futures.wait(waiting, bench.patience)  # or they would be measured by whoever measures next
