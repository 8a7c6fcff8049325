"""Readback: how many reads hold a block, and whose bytes it shows."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.sources import all_of, served, stamp, stamped, take
from forge3d_core.errors import (
    Busy,
    FenceTimeout,
)
from forge3d_core.protocols import ReadbackHandle, ReadbackPool


def pending(pool: ReadbackPool) -> int:
    return pool.stats().pending_operations


@pytest.mark.clause("readback.backpressure")
def test_raise_refuses_the_read_beyond_the_limit_and_changes_nothing(bench: Bench) -> None:
    device = bench.open()
    buffers = stamped(bench, device, [1, 2, 3])
    with device.readback_pool(max_pending_ops=2, backpressure="raise", buffer_size=4096) as pool:
        with bench.hold(device, "download") as hold:
            handles = [pool.read(buffer) for buffer in buffers[:2]]
            before, charged = pool.stats(), device.budget.metrics()
            for _ in range(3):
                with bench.raises(Busy, "a third read of a pool of two"):
                    hold.promptly(pool.read, buffers[2])
            after = hold.observe(pool.stats)
            wanted = attrs.evolve(before, waits=before.waits + 3)
            bench.check(after == wanted, f"three refusals made {after} of {before}")
            bench.check(hold.observe(pending, pool) == 2, f"{pending(pool)} reads of 2 hold a block")
            bench.check(device.budget.metrics() == charged, "a refused read changed the budget")
        for value, handle in enumerate(handles, 1):
            bench.same(take(bench, handle), all_of(value), "a read before a refused one")
        for _ in range(2):
            again = [served(bench, pool, buffers[2], "a read after a refused one") for _ in range(2)]
            for handle in again:
                bench.same(take(bench, handle), all_of(3), "a read after a refused one")


@pytest.mark.clause("readback.backpressure")
def test_wait_waits_for_a_block_and_no_longer_than_its_timeout(bench: Bench) -> None:
    device = bench.open()
    buffers = stamped(bench, device, [1, 2, 3])
    with device.readback_pool(max_pending_ops=2, timeout=0.1, buffer_size=4096) as pool:
        with bench.hold(device, "download") as hold:
            handles = [pool.read(buffer) for buffer in buffers[:2]]
            started = time.monotonic()
            with bench.raises(FenceTimeout, "a third read of a pool of two"):
                hold.promptly(pool.read, buffers[2])
            elapsed = time.monotonic() - started
            bench.check(elapsed >= 0.095, f"a read gave up after {elapsed:.4f} s where 0.1 s were configured")
            bench.check(hold.observe(pending, pool) == 2, f"{pending(pool)} reads of 2 hold a block")
        for value, handle in enumerate(handles, 1):
            bench.same(take(bench, handle), all_of(value), "a read before one that timed out")
        again = [served(bench, pool, buffers[2], "a read after one that timed out") for _ in range(2)]
        for handle in again:
            bench.same(take(bench, handle), all_of(3), "a read after one that timed out")


@pytest.mark.clause("readback.backpressure")
def test_a_read_that_waits_goes_on_when_the_oldest_has_landed(bench: Bench) -> None:
    device = bench.open()
    buffers = stamped(bench, device, [1, 2, 3])
    with device.readback_pool(max_pending_ops=2, timeout=bench.patience, buffer_size=4096) as pool:
        with bench.hold(device, "download") as hold:
            handles = [pool.read(buffer) for buffer in buffers[:2]]
            third = bench.thread(lambda: pool.read(buffers[2]))
            threading.Event().wait(0.05)
            bench.check(not hold.observe(third.done), "a third read of a pool of two did not wait")
            bench.check(hold.observe(pending, pool) <= 2, f"{pending(pool)} reads of 2 hold a block")
        handles.append(bench.result(third, "a read that waits for a block"))
        for value, handle in enumerate(handles, 1):
            bench.same(take(bench, handle), all_of(value), "a read around one that waited")


@pytest.mark.clause("readback.backpressure")
def test_degrade_reads_synchronously(bench: Bench) -> None:
    device = bench.open()
    buffers = stamped(bench, device, [1, 2, 3])
    with device.readback_pool(max_pending_ops=2, backpressure="degrade", buffer_size=4096) as pool:
        with bench.hold(device, "download") as hold:
            handles = [pool.read(buffer) for buffer in buffers[:2]]
            third = bench.thread(lambda: pool.read(buffers[2]))
            threading.Event().wait(0.05)
            bench.check(not hold.observe(third.done), "a degraded read came back before it was complete")
            bench.check(hold.observe(pending, pool) <= 2, f"{pending(pool)} reads of 2 hold a block")
        try:
            degraded = bench.result(third, "a degraded read")
        except (Busy, FenceTimeout) as error:
            bench.check(False, f"a read that should degrade raised {type(error).__name__}: {error}")
        bench.check(degraded.is_complete, "a degraded read came back before it was complete")
        handles.append(degraded)
        for value, handle in enumerate(handles, 1):
            bench.same(take(bench, handle), all_of(value), "a read around a degraded one")


@pytest.mark.clause("readback.backpressure", requires=())
def test_reads_that_nobody_has_taken_yet_do_not_stop_the_pool(bench: Bench) -> None:
    device = bench.open()
    values = list(range(1, 13))
    buffers = stamped(bench, device, values)
    with device.readback_pool(max_pending_ops=3, timeout=bench.patience, buffer_size=4096) as pool:
        handles = []
        for buffer in buffers:
            handles.append(served(bench, pool, buffer, "one of many reads before the first is taken"))
            bench.check(pending(pool) <= 3, f"{pending(pool)} reads of 3 hold a block")
        for value, handle in zip(values, handles, strict=True):
            bench.same(take(bench, handle), all_of(value), "one of many reads taken late")


@pytest.mark.clause("readback.backpressure", requires=())
def test_the_limit_holds_for_any_number_of_threads(bench: Bench) -> None:
    device = bench.open()
    buffers = stamped(bench, device, [1, 2, 3, 4])
    stop = threading.Event()
    most = 0
    with device.readback_pool(max_pending_ops=2, timeout=bench.patience, buffer_size=4096) as pool:

        def work(value: int) -> int:
            for _ in range(bench.scale(12, 200)):
                bench.same(take(bench, pool.read(buffers[value - 1])), all_of(value), "one thread's read")
            return value

        def watch() -> int:
            highest = 0
            while not stop.wait(0.0005):
                highest = max(highest, pending(pool))
            return highest

        watcher = bench.thread(watch)
        try:
            for worker in [bench.thread(work, value) for value in (1, 2, 3, 4)]:
                bench.result(worker, "a reading thread")
        finally:
            stop.set()
        most = bench.result(watcher)
    bench.check(most <= 2, f"{most} reads of 2 held a block")


@pytest.mark.clause("readback.no-stale-bytes")
def test_a_result_holds_its_own_bytes_only(bench: Bench) -> None:
    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.device = bench.open()
            self.source = self.device.create_buffer(12_000)
            self.pool = self.device.readback_pool(max_pending_ops=3, buffer_size=256, pre_allocate=False)
            self.value = 0
            self.waiting: list[tuple[int, int, ReadbackHandle]] = []
            self.taken: list[tuple[int, NDArray[Any]]] = []

        @rule(
            offset=st.sampled_from((0, 1, 3, 4, 255, 4096)),
            nbytes=st.sampled_from((1, 2, 3, 5, 255, 256, 257, 1000, 4095, 4097, 7000)),
        )
        def start(self, offset: int, nbytes: int) -> None:
            self.value = self.value % 255 + 1
            stamp(self.device, self.source, self.value)
            handle = self.pool.read(self.source, offset=offset, nbytes=nbytes)
            self.waiting.append((self.value, nbytes, handle))

        @precondition(lambda self: self.waiting)
        @rule(which=st.integers(0, 99))
        def take(self, which: int) -> None:
            value, nbytes, handle = self.waiting.pop(which % len(self.waiting))
            array = take(bench, handle)
            bench.same(array, all_of(value, nbytes), "a read shows other bytes than its own")
            self.taken.append((value, array))

        @precondition(lambda self: self.waiting)
        @rule(which=st.integers(0, 99))
        def lease(self, which: int) -> None:
            value, nbytes, handle = self.waiting.pop(which % len(self.waiting))
            with handle.lease(bench.patience) as array:
                bench.same(array, all_of(value, nbytes), "a lease shows other bytes than its own")

        @precondition(lambda self: self.waiting)
        @rule(which=st.integers(0, 99))
        def cancel(self, which: int) -> None:
            self.waiting.pop(which % len(self.waiting))[2].cancel()

        @precondition(lambda self: self.waiting)
        @rule(which=st.integers(0, 99))
        def drop(self, which: int) -> None:
            self.waiting.pop(which % len(self.waiting))

        @invariant()
        def what_was_taken_stays(self) -> None:
            for value, array in self.taken[-4:]:
                bench.check((array == value).all(), "a read that was taken shows other bytes later")

        def teardown(self) -> None:
            self.waiting.clear()
            self.device.close()

    bench.machine(Machine)


@pytest.mark.clause("readback.no-stale-bytes", requires=("hold",))
def test_a_pool_closed_in_flight_never_writes_into_what_is_made_next(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [1], 4096)
    target = device.create_buffer(4096)
    pool = device.readback_pool(max_pending_ops=2, buffer_size=4096)
    with bench.hold(device, "download", 1.0) as hold:
        point = [pool.read(buffer).point for _ in range(2)][-1]
        pool.close()
        ring = device.staging_ring(ring_count=2, buffer_size=4096)
        slots = [ring.allocate(4096) for _ in range(2)]
        for slot in slots:
            assert slot is not None
            slot.view[:] = 7
        hold.still()
    bench.wait(point, "a read whose pool was closed")
    for slot in slots:  # the device has written where it was to write
        assert slot is not None
        bench.same(slot.view, all_of(7, 4096), "a ring made after a pool was closed in flight")
        slot.commit(target)
    bench.wait(ring.advance(bench.patience))
    with device.readback_pool(max_pending_ops=1, buffer_size=4096) as later:
        seen = take(bench, later.read(target))
        bench.same(seen, all_of(7, 4096), "what a ring staged after a pool was closed in flight")


@pytest.mark.clause("readback.no-stale-bytes", requires=("hold",))
def test_a_read_given_up_in_flight_never_writes_into_another(bench: Bench) -> None:
    device = bench.open()
    sizes = (10, 5000, 4999, 1)
    given_up, kept = stamped(bench, device, [1, 2], 5000)
    with device.readback_pool(max_pending_ops=2, timeout=bench.patience, buffer_size=8192) as pool:

        def later() -> list[ReadbackHandle]:
            return [pool.read(kept, nbytes=nbytes) for nbytes in sizes]

        with bench.hold(device, "download") as hold:
            handle = pool.read(given_up)
            handle.cancel()
            pool.read(given_up)  # and dropped
            gc.collect(0)
            reading = bench.thread(later)
            threading.Event().wait(0.02)
            hold.still()
        handles: list[ReadbackHandle] = bench.result(reading, "reads")
        for nbytes, handle in zip(sizes, handles, strict=True):
            bench.same(take(bench, handle), all_of(2, nbytes), "a read after one that was given up")
