"""Readback: what one handle promises, whoever holds it and however it is let go."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.sources import (
    all_of,
    ended,
    ended_under_asyncio,
    served,
    stamp,
    stamped,
    take,
)
from forge3d_conformance.waiting import PROMPT
from forge3d_core.errors import Busy, Cancelled, Closed, FenceTimeout, ForgeError, StateError

MANY = 8


@pytest.mark.clause("readback.any-order")
@given(order=st.permutations(range(MANY)), threads=st.sampled_from((1, 3)))
def test_handles_are_taken_in_any_order_by_any_thread(bench: Bench, order: list[int], threads: int) -> None:
    with bench.open() as device:
        buffers = stamped(bench, device, range(1, MANY + 1), 100)
        with device.readback_pool(max_pending_ops=3, timeout=bench.patience, buffer_size=4096) as pool:
            handles = [served(bench, pool, buffer, "one of many reads") for buffer in buffers]

            def work(mine: list[int]) -> None:
                for index in mine:
                    what = f"read {index} of {MANY}, taken in the order {order} by {threads} thread(s)"
                    try:
                        seen = take(bench, handles[index], what)
                    except ForgeError as error:
                        bench.check(False, f"{what}: {type(error).__name__} ({error})")
                    bench.same(seen, all_of(index + 1, 100), what)

            for worker in [bench.thread(work, order[start::threads]) for start in range(threads)]:
                bench.result(worker, "a thread that takes reads")


@pytest.mark.clause("readback.any-order", requires=("hold",))
def test_many_threads_may_wait_for_one_read(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [1])
    with device.readback_pool(buffer_size=4096) as pool:
        with bench.hold(device, "download", 0.3) as hold:
            stamp(device, buffer, 2)
            handle = pool.read(buffer)
            waiting = [bench.thread(take, bench, handle, "a read that many wait for") for _ in range(6)]
            threading.Event().wait(0.02)
            hold.still()
        seen = [bench.result(waiter, "one of many waiters") for waiter in waiting]
        for array in seen:
            bench.same(array, all_of(2), "a read that many threads wait for")
            bench.check(array is seen[0], "threads that waited for one read got different arrays")


@pytest.mark.clause("readback.idempotent")
def test_the_answer_is_the_same_array_every_time(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [1])
    with device.readback_pool(max_pending_ops=2, timeout=bench.patience, buffer_size=4096) as pool:
        for first_by_looking in (False, True):
            value = 1 + first_by_looking
            bench.wait(stamp(device, buffer, value))
            handle = pool.read(buffer)
            bench.wait(handle.point, "a read's point")
            looked = handle.try_get() if first_by_looking else take(bench, handle)
            bench.check(looked is not None, "try_get of a complete read gave None")
            assert looked is not None
            first = looked
            for later in range(100, 106):
                stamp(device, buffer, later)
                bench.same(take(bench, pool.read(buffer)), all_of(later), "a later read")
                bench.same(first, all_of(value), "an array that was taken, after later reads")
                try:
                    again = [handle.wait(0), handle.try_get(), handle.wait(bench.patience)]
                except ForgeError as error:
                    bench.check(False, f"a second wait raised {type(error).__name__}: {error}")
                bench.check(
                    all(array is first for array in again), "wait and try_get gave another array than before"
                )
            bench.check(handle.is_complete, "a read that was taken says it is not complete")
    bench.check(take(bench, handle) is first, "wait gave another array once the pool was closed")
    device.close()
    bench.same(first, all_of(value), "an array that was taken, after close")


@pytest.mark.clause("readback.idempotent")
def test_an_untaken_read_keeps_its_bytes_whoever_needs_the_block(bench: Bench) -> None:
    device = bench.open()
    values = list(range(1, 10))
    buffers = stamped(bench, device, values)
    with device.readback_pool(max_pending_ops=2, timeout=bench.patience, buffer_size=4096) as pool:
        handles = [served(bench, pool, buffer, "one of many reads") for buffer in buffers]
        arrays = [take(bench, handle) for handle in handles]
        for value, array, handle in zip(values, arrays, handles, strict=True):
            bench.same(array, all_of(value), "one of many arrays that were taken")
            bench.check(take(bench, handle) is array, "wait and try_get gave another array than before")
        arrays[0][:] = 255
        for value, array in list(zip(values, arrays, strict=True))[1:]:
            bench.same(array, all_of(value), "an array, after the caller wrote into another")


@pytest.mark.clause("readback.abandoned")
@pytest.mark.parametrize("how", ["dropped", "cancelled"])
def test_abandoned_reads_give_their_blocks_back_and_not_too_soon(bench: Bench, how: str) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [1])
    with device.readback_pool(max_pending_ops=2, backpressure="raise", buffer_size=4096) as pool:
        for round in range(2):
            with bench.hold(device, "download", 0.3) as hold:
                what = f"a read after {2 * round} were {how}"
                handles = [served(bench, pool, buffer, what) for _ in range(2)]
                if how == "cancelled":
                    for handle in handles:
                        handle.cancel()
                else:
                    handles.clear()
                    gc.collect(0)
                try:
                    hold.observe(pool.read, buffer)
                except Busy:
                    hold.still()
                else:
                    bench.check(False, f"the block of a {how} read was used while the device still wrote it")
            device.wait_idle(bench.patience)
        kept = [served(bench, pool, buffer, f"a read after four were {how}") for _ in range(2)]
        for handle in kept:
            bench.same(take(bench, handle), all_of(1), f"a read after others were {how}")


@pytest.mark.clause("readback.abandoned")
def test_a_cancelled_read_says_so(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [1])
    with device.readback_pool(max_pending_ops=3, buffer_size=4096) as pool:
        with bench.hold(device, "download", 1.0) as hold:
            handle, other = pool.read(buffer), pool.read(buffer)
            under_way = {
                "a wait": bench.thread(ended, handle, bench.patience),
                "an await": bench.thread(ended_under_asyncio, handle, bench.patience),
            }
            threading.Event().wait(0.02)
            for _ in range(3):
                handle.cancel()
            for what, waiting in under_way.items():  # the device is not done, and has not to be
                bench.check(
                    (how := hold.promptly(waiting.result)) == "Cancelled",
                    f"{what} that was under way when its read was cancelled ended with {how}",
                )
        for _ in range(2):
            with bench.raises(Cancelled, what := "a wait for a cancelled read"):
                bench.within(PROMPT, what, handle.wait, bench.patience)
        with bench.raises(Cancelled, what := "a lease of a cancelled read"):
            bench.within(PROMPT, what, handle.lease, bench.patience)
        handle.cancel()
        array = take(bench, other)
        for _ in range(2):
            other.cancel()
            bench.check(take(bench, other) is array, "a read that was cancelled too late gave another array")
        bench.same(array, all_of(1), "a read that was cancelled too late")


@pytest.mark.clause("readback.abandoned")
def test_closing_the_pool_abandons_what_is_pending(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [1])
    pool = device.readback_pool(max_pending_ops=3, buffer_size=4096)
    taken = pool.read(buffer)
    array = take(bench, taken)
    with bench.hold(device, "download", 0.3) as hold:
        pending = [pool.read(buffer) for _ in range(2)]
        hold.promptly(pool.close)
        hold.promptly(pool.close)
    for handle in pending:
        with bench.raises(Cancelled, what := "a wait for a read whose pool was closed"):
            bench.within(PROMPT, what, handle.wait, bench.patience)
    bench.check(take(bench, taken) is array, "a read taken before its pool was closed gave another array")
    with bench.raises(Closed, "a read of a closed pool"):
        pool.read(buffer)
    bench.check(pool.closed, "a closed pool says that it is open")


@pytest.mark.clause("readback.lease")
def test_a_lease_stays_as_it_is_while_the_pool_goes_on(bench: Bench) -> None:
    device = bench.open()
    leased, buffer = stamped(bench, device, [77, 1])
    with device.readback_pool(max_pending_ops=3, timeout=bench.patience, buffer_size=4096) as pool:
        lease = pool.read(leased).lease(bench.patience)
        array = lease.array
        for value in range(1, 13):
            stamp(device, buffer, value)
            handle = served(bench, pool, buffer, "a read beside a lease")
            bench.same(array, all_of(77), "a leased array, while another read is in flight")
            bench.same(take(bench, handle), all_of(value), "a read beside a lease")
            bench.same(lease.array, all_of(77), "a leased array, after another read")
        bench.check(not array.flags.writeable, "a leased array is writable")
        with bench.raises(ValueError, "a write into a leased array"):
            array[0] = 1
        lease.release()
        lease.release()
        with bench.raises(StateError, "the array of a released lease"):
            _ = lease.array


@pytest.mark.clause("readback.lease")
def test_leased_blocks_are_not_to_be_had_until_they_are_released(bench: Bench) -> None:
    device = bench.open()
    leased, buffer = stamped(bench, device, [77, 1])
    with device.readback_pool(max_pending_ops=2, timeout=0.05, buffer_size=4096) as pool:
        leases = [pool.read(leased).lease(bench.patience) for _ in range(2)]
        with bench.raises(FenceTimeout, "a read while every block is leased"):
            pool.read(buffer)
        for lease in leases:
            bench.same(lease.array, all_of(77), "a leased array")
            lease.release()
        for _ in range(4):
            handle = served(bench, pool, buffer, "a read after the leases were released")
            bench.same(take(bench, handle), all_of(1), "a read after the leases were released")


@pytest.mark.clause("readback.lease")
def test_an_array_derived_from_a_lease_keeps_the_block(bench: Bench) -> None:
    device = bench.open()
    leased, buffer = stamped(bench, device, [77, 1])
    with device.readback_pool(max_pending_ops=1, timeout=0.05, buffer_size=4096) as pool:
        lease = pool.read(leased).lease(bench.patience)
        derived = lease.array.reshape(10, 100)[2:5, 7:]
        lease.release()
        for _ in range(2):
            try:
                later = pool.read(buffer)
            except FenceTimeout:
                pass
            else:
                take(bench, later)
            bench.check((derived == 77).all(), "an array derived from a lease shows other bytes")
        del derived
        gc.collect(0)
        handle = served(bench, pool, buffer, "a read after the last array of a lease was dropped")
        bench.same(take(bench, handle), all_of(1), "a read after the last array of a lease was dropped")


@pytest.mark.clause("readback.lease")
def test_a_lease_outlives_its_pool(bench: Bench) -> None:
    device = bench.open()
    leased, buffer = stamped(bench, device, [77, 1])
    before = device.budget.metrics().host_visible_bytes
    pool = device.readback_pool(max_pending_ops=2, buffer_size=4096)
    lease = pool.read(leased).lease(bench.patience)
    pool.close()
    with device.readback_pool(max_pending_ops=2, buffer_size=4096) as other:
        for _ in range(4):
            bench.same(take(bench, other.read(buffer)), all_of(1), "a read of another pool")
            bench.same(lease.array, all_of(77), "a lease whose pool was closed")
    lease.release()

    def back() -> bool:
        device.wait_idle(bench.patience)
        return device.budget.metrics().host_visible_bytes == before

    bench.until(back, "the block of a lease that outlived its pool")


@pytest.mark.clause("readback.lease")
def test_a_lease_after_wait_shows_the_owned_array(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [5])
    with device.readback_pool(max_pending_ops=1, timeout=0.05, buffer_size=4096) as pool:
        handle = pool.read(buffer)
        owned = take(bench, handle)
        try:
            lease = handle.lease(bench.patience)
        except ForgeError as error:
            bench.check(False, f"a lease after wait raised {type(error).__name__}: {error}")
        with lease as array:
            bench.check(np.shares_memory(array, owned), "a lease after wait shows another array")
            bench.same(array, all_of(5), "a lease after wait")
            bench.check(not array.flags.writeable, "a leased array is writable")
            served(bench, pool, buffer, "a read beside a lease of an owned array")
        bench.check(owned.flags.writeable, "releasing a lease made the owned array read-only")
