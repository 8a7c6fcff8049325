"""Readback: how many reads hold a block, what blocks cost, and what the pool counts."""

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
    BudgetError,
    Busy,
    Cancelled,
    FenceTimeout,
    OutOfDeviceMemory,
)
from forge3d_core.protocols import Device, ReadbackHandle, ReadbackPool


def pending(pool: ReadbackPool) -> int:
    return pool.stats().pending_operations


def host_visible(device: Device) -> int:
    return device.budget.metrics().host_visible_bytes


@pytest.mark.clause("readback.backpressure")
def test_raise_refuses_the_read_beyond_the_limit_and_changes_nothing(bench: Bench) -> None:
    device = bench.open()
    buffers = stamped(bench, device, [1, 2, 3])
    with device.readback_pool(max_pending_ops=2, backpressure="raise", buffer_size=4096) as pool:
        with bench.hold(device, "download") as hold:
            handles = [pool.read(buffer) for buffer in buffers[:2]]
            before, charged = pool.stats(), host_visible(device)
            for _ in range(3):
                with bench.raises(Busy, "a third read of a pool of two"):
                    hold.promptly(pool.read, buffers[2])
            after = hold.observe(pool.stats)
            wanted = attrs.evolve(before, waits=before.waits + 3)
            bench.check(after == wanted, f"three refusals made {after} of {before}")
            bench.check(hold.observe(pending, pool) == 2, f"{pending(pool)} reads of 2 hold a block")
            bench.check(host_visible(device) == charged, "a refused read took host-visible memory")
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
                hold.observe(pool.read, buffers[2])
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


SIZES = (100, 3000, 5000, 100, 70_000)


def round_of_reads(bench: Bench, pool: ReadbackPool, source: Any, value: int) -> None:
    """Read several sizes, several at once, and let go of them in every way there is."""
    handles = [pool.read(source, nbytes=nbytes) for nbytes in SIZES[:3]]
    for nbytes, handle in zip(SIZES, handles, strict=False):
        bench.same(take(bench, handle), all_of(value, nbytes), "a read in the steady state")
    lent = pool.read(source, nbytes=SIZES[3])
    with lent.lease(bench.patience) as array:
        bench.same(array, all_of(value, SIZES[3]), "a lease in the steady state")
    del array
    last = pool.read(source, nbytes=SIZES[4], out=None)
    bench.wait(last.point, "a read in the steady state")
    last.cancel()


@pytest.mark.clause("readback.pooled")
def test_counts_stay_flat_once_every_size_has_been_seen(bench: Bench) -> None:
    device = bench.open()
    (source,) = stamped(bench, device, [9], max(SIZES))
    with device.readback_pool(max_pending_ops=3, buffer_size=4096) as pool:
        for _ in range(8):
            round_of_reads(bench, pool, source, 9)
        warm, metrics = pool.stats(), device.budget.metrics()
        for _ in range(bench.scale(20, 400)):
            round_of_reads(bench, pool, source, 9)
            now, charged = pool.stats(), device.budget.metrics()
            for count in ("block_allocations", "blocks", "block_bytes"):
                seen, wanted = getattr(now, count), getattr(warm, count)
                bench.check(seen == wanted, f"{count} went from {wanted} to {seen} in the steady state")
            for name in ("host_visible_bytes", "peak_host_visible_bytes", "buffer_count", "refusals"):
                seen, wanted = getattr(charged, name), getattr(metrics, name)
                bench.check(seen == wanted, f"{name} went from {wanted} to {seen} in the steady state")


@pytest.mark.clause("readback.pooled", requires=("host_pressure",))
def test_the_driver_is_not_asked_for_memory_once_the_pool_is_warm(bench: Bench) -> None:
    device = bench.open()
    (source,) = stamped(bench, device, [9], max(SIZES))
    with device.readback_pool(max_pending_ops=3, buffer_size=4096) as pool:
        for _ in range(8):
            round_of_reads(bench, pool, source, 9)
        bench.fail_next_allocation(device)
        try:
            for _ in range(bench.scale(5, 50)):
                round_of_reads(bench, pool, source, 9)
        except OutOfDeviceMemory as error:
            bench.check(False, f"a read in the steady state asked the driver for memory: {error}")
        with bench.raises(OutOfDeviceMemory, "the first allocation after all that"):
            device.readback_pool(max_pending_ops=1, buffer_size=4096)


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
            gc.collect()
            reading = bench.thread(later)
            threading.Event().wait(0.02)
            hold.still()
        for nbytes, handle in zip(sizes, bench.result(reading, "reads"), strict=True):
            bench.same(take(bench, handle), all_of(2, nbytes), "a read after one that was given up")


@pytest.mark.clause("readback.double-buffered")
@pytest.mark.parametrize("depth", [2, 4])
def test_several_reads_are_in_flight_at_once(bench: Bench, depth: int) -> None:
    device = bench.open()
    buffers = stamped(bench, device, range(1, depth + 1))
    pool = device.readback_pool(max_pending_ops=depth, backpressure="raise", buffer_size=4096)
    with pool:
        with bench.hold(device, "download") as hold:
            try:
                handles = hold.promptly(lambda: [pool.read(buffer) for buffer in buffers])
            except Busy as error:
                bench.check(False, f"{depth} reads could not be in flight at once: {error}")
            stats = hold.observe(pool.stats)
        bench.check(
            stats.pending_operations == depth,
            f"{stats.pending_operations} of {depth} reads were in flight at once",
        )
        bench.check(stats.blocks >= depth, f"{depth} reads in flight had {stats.blocks} blocks")
        for value, handle in enumerate(handles, 1):
            bench.same(take(bench, handle), all_of(value), "one of several reads in flight")


@pytest.mark.clause("readback.double-buffered")
def test_one_block_serves_all_reads_in_turn(bench: Bench) -> None:
    device = bench.open()
    buffers = stamped(bench, device, [1, 2, 3, 4])
    pool = device.readback_pool(
        double_buffered=False, max_pending_ops=4, timeout=bench.patience, buffer_size=4096
    )
    with pool:
        with bench.hold(device, "download") as hold:
            handles = [pool.read(buffers[0])]
            second = bench.thread(lambda: pool.read(buffers[1]))
            threading.Event().wait(0.03)
            stats = hold.observe(pool.stats)
            bench.check(not hold.observe(second.done), "two reads were in flight over one block")
            bench.check(stats.blocks == 1, f"a pool that is not double-buffered has {stats.blocks} blocks")
        handles.append(bench.result(second, "a read that waits for the one block"))
        handles += [served(bench, pool, buffer, "a read in turn") for buffer in buffers[2:]]
        for value, handle in enumerate(handles, 1):
            bench.same(take(bench, handle), all_of(value), "a read in turn")
        bench.check(pool.stats().blocks == 1, f"reads in turn made {pool.stats().blocks} blocks")


@pytest.mark.clause("readback.budgeted")
def test_blocks_are_charged_and_given_back(bench: Bench) -> None:
    device = bench.open()
    (source,) = stamped(bench, device, [1], 100_000)
    before = device.budget.metrics()
    pool = device.readback_pool(max_pending_ops=3, buffer_size="64 KiB")
    for nbytes in (1000, 100_000):
        bench.same(take(bench, pool.read(source, nbytes=nbytes)), all_of(1, nbytes), "a read")
        charged, stats = device.budget.metrics(), pool.stats()
        grown = charged.host_visible_bytes - before.host_visible_bytes
        bench.check(stats.block_bytes >= 3 * 65536, f"three blocks of 64 KiB are {stats.block_bytes} bytes")
        bench.check(
            grown >= stats.block_bytes,
            f"blocks of {stats.block_bytes} bytes are charged {grown} bytes of host-visible memory",
        )
        bench.check(
            charged.device_local_bytes == before.device_local_bytes,
            f"blocks are charged {charged.device_local_bytes - before.device_local_bytes} device-local bytes",
        )
    pool.close()
    returned(bench, device, before.host_visible_bytes, "a closed pool's memory")


@pytest.mark.clause("readback.budgeted", requires=("hold",))
def test_a_pool_closed_in_flight_gives_back_when_the_device_is_done(bench: Bench) -> None:
    device = bench.open()
    (source,) = stamped(bench, device, [1])
    before = host_visible(device)
    pool = device.readback_pool(max_pending_ops=2, buffer_size=4096)
    with bench.hold(device, "download") as hold:
        handle = pool.read(source)
        hold.promptly(pool.close)
        charged = hold.observe(host_visible, device)
        bench.check(charged > before, "a block was given back while the device still wrote it")
    returned(bench, device, before, "the memory of a pool closed in flight")
    with bench.raises(Cancelled, "a wait for a read of a pool closed in flight"):
        handle.wait(bench.patience)


def returned(bench: Bench, device: Device, wanted: int, what: str) -> None:
    """Wait until host-visible use is back at ``wanted``."""

    def back() -> bool:
        device.wait_idle(bench.patience)
        return host_visible(device) == wanted

    bench.until(back, f"{what}, {host_visible(device) - wanted} bytes,")


@pytest.mark.clause("readback.budgeted")
def test_a_pool_that_does_not_fit_leaves_nothing_behind(bench: Bench) -> None:
    device = bench.open(budget="1 MiB")
    before = device.budget.metrics()
    for blocks, size in ((4, "512 KiB"), (1, "2 MiB")):
        with bench.raises(BudgetError, f"a pool of {blocks} x {size} under a budget of 1 MiB"):
            device.readback_pool(max_pending_ops=blocks, buffer_size=size)
        after = device.budget.metrics()
        bench.check(
            after.host_visible_bytes == before.host_visible_bytes
            and after.buffer_count == before.buffer_count,
            f"a refused pool left {after.host_visible_bytes - before.host_visible_bytes} bytes in "
            f"{after.buffer_count - before.buffer_count} buffers behind",
        )
    source = device.create_buffer(2_000_000)
    with device.readback_pool(
        max_pending_ops=2, backpressure="raise", buffer_size="256 KiB", pre_allocate=False
    ) as pool:
        counted = pool.stats()
        for _ in range(3):
            with bench.raises(BudgetError, "a read larger than the budget"):
                pool.read(source)
        bench.check(pool.stats() == counted, f"refused reads made {pool.stats()} of {counted}")
        handles = [served(bench, pool, device.create_buffer(100), "a read that fits") for _ in range(2)]
        for handle in handles:
            bench.same(take(bench, handle), all_of(0, 100), "a read that fits")


@pytest.mark.clause("readback.budgeted", requires=("host_pressure",))
def test_a_pool_that_the_driver_refuses_leaves_nothing_behind(bench: Bench) -> None:
    device = bench.open()
    before = host_visible(device)
    bench.fail_next_allocation(device)
    with bench.raises(OutOfDeviceMemory, "a pool when the driver has no memory"):
        device.readback_pool(max_pending_ops=3, buffer_size=4096)
    bench.check(host_visible(device) == before, "a pool that the driver refused is charged all the same")
    device.readback_pool(max_pending_ops=3, buffer_size=4096).close()
