"""Readback: what blocks there are, what they cost, and that they are used again."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.sources import all_of, served, stamped, take
from forge3d_core.errors import BudgetError, Busy, Cancelled, OutOfDeviceMemory
from forge3d_core.protocols import Device, ReadbackPool


def host_visible(device: Device) -> int:
    return device.budget.metrics().host_visible_bytes


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
    limit = min(1 << 20, bench.target.limits.max_buffer_size // 2)
    device = bench.open(budget=limit)
    before = device.budget.metrics()
    for blocks, size in ((4, limit // 2), (1, 2 * limit)):
        with bench.raises(BudgetError, f"a pool of {blocks} x {size} bytes under a budget of {limit}"):
            device.readback_pool(max_pending_ops=blocks, buffer_size=size)
        after = device.budget.metrics()
        bench.check(
            after.host_visible_bytes == before.host_visible_bytes
            and after.buffer_count == before.buffer_count,
            f"a refused pool left {after.host_visible_bytes - before.host_visible_bytes} bytes in "
            f"{after.buffer_count - before.buffer_count} buffers behind",
        )
    source = device.create_buffer(2 * limit - 97)
    with device.readback_pool(
        max_pending_ops=2, backpressure="raise", buffer_size=limit // 4, pre_allocate=False
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
