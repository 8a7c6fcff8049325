"""Readback: awaiting, with a loop that goes on turning."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from numpy.typing import NDArray

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.sources import all_of, stamped, take
from forge3d_conformance.holding import Holding
from forge3d_core.errors import Cancelled, FenceTimeout
from forge3d_core.protocols import ReadbackHandle

TURNS = 10
MANY = 100
"""Reads at once, of a pool with two blocks."""


async def landed(handle: ReadbackHandle) -> NDArray[Any]:
    return await handle


def together(bench: Bench, hold: Holding, waits: list[Callable[[], Awaitable[Any]]], what: str) -> list[Any]:
    """Await ``waits`` at once. The loop must turn while the lane is held, and lets go of it itself."""
    turned, seen = threading.Event(), threading.Event()
    ended: list[int] = []

    async def turn() -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0.001)
        turned.set()
        while not seen.is_set():
            await asyncio.sleep(0.001)
        hold.release()

    async def one(index: int) -> Any:
        result = await waits[index]()
        ended.append(index)
        return result

    async def all_at_once() -> list[Any]:
        return (await asyncio.gather(*map(one, range(len(waits))), turn()))[:-1]

    loop = bench.thread(lambda: bench.run(all_at_once(), what))
    try:
        hold.promptly(turned.wait)
        early = hold.observe(lambda: list(ended))
        bench.check(not early, f"{what}: {len(early)} came back while the device held the work")
    finally:
        turned.set()
        seen.set()
    return bench.result(loop, what)


@pytest.mark.clause("readback.async")
def test_gathered_handles_leave_the_loop_free(bench: Bench) -> None:
    device = bench.open()
    values = list(range(1, 5))
    buffers = stamped(bench, device, values, 200_000)
    with device.readback_pool(max_pending_ops=4, buffer_size=200_000) as pool:
        with bench.hold(device, "download", 0.8) as hold:
            handles = [pool.read(buffer) for buffer in buffers]
            arrays = together(bench, hold, [lambda h=h: landed(h) for h in handles], "awaits of reads")  # type: ignore[misc]
        for value, array, handle in zip(values, arrays, handles, strict=True):
            bench.same(array, all_of(value, 200_000), "a read that was awaited")
            bench.check(take(bench, handle) is array, "wait after await gave another array")
            bench.check(bench.run(landed(handle)) is array, "a second await gave another array")


@pytest.mark.clause("readback.async")
def test_many_tasks_may_await_one_handle(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [6])
    with device.readback_pool(buffer_size=4096) as pool, bench.hold(device, "download", 0.8) as hold:
        handle = pool.read(buffer)
        arrays = together(bench, hold, [lambda: landed(handle)] * 5, "awaits of one read")
        for array in arrays:
            bench.same(array, all_of(6), "a read that many tasks await")
            bench.check(array is arrays[0], "tasks that awaited one read got different arrays")


@pytest.mark.clause("readback.async")
def test_waiting_for_a_block_leaves_the_loop_free(bench: Bench) -> None:
    device = bench.open()
    buffers = stamped(bench, device, [1, 2, 3])
    with device.readback_pool(max_pending_ops=1, timeout=bench.patience, buffer_size=4096) as pool:
        with bench.hold(device, "download", 0.8) as hold:
            first = pool.read(buffers[0])
            waits: list[Callable[[], Awaitable[Any]]] = [
                lambda b=buffer: pool.read_async(b)  # type: ignore[misc]
                for buffer in buffers[1:]
            ]
            handles = [first, *together(bench, hold, waits, "asynchronous reads of a full pool")]
        for value, handle in enumerate(handles, 1):
            bench.same(bench.run(landed(handle)), all_of(value), "a read around a full pool")


@pytest.mark.clause("readback.async", requires=())
def test_more_reads_than_blocks_are_gathered(bench: Bench) -> None:
    device = bench.open()
    values = list(range(1, 13))
    buffers = stamped(bench, device, values)

    async def stream() -> list[NDArray[Any]]:
        async with device.readback_pool(max_pending_ops=2, timeout=bench.patience, buffer_size=4096) as pool:
            handles = [await pool.read_async(buffer) for buffer in buffers]
            return list(await asyncio.gather(*map(landed, handles)))

    for value, array in zip(values, bench.run(stream(), "twelve reads over two blocks"), strict=True):
        bench.same(array, all_of(value), "one of many reads that were gathered")


@pytest.mark.clause("readback.async")
def test_a_task_that_gives_up_leaves_the_read_to_others(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [4])

    async def impatient(handle: ReadbackHandle) -> bool:
        try:
            await asyncio.wait_for(landed(handle), 0.02)
        except FenceTimeout:
            raise
        except TimeoutError:
            return True
        return False

    with device.readback_pool(buffer_size=4096) as pool:
        with bench.hold(device, "download") as hold:
            handle, cancelled = pool.read(buffer), pool.read(buffer)
            bench.check(hold.observe(bench.run, impatient(handle)), "an await of a held read came back")
            cancelled.cancel()
        bench.same(bench.run(landed(handle)), all_of(4), "a read whose first awaiter gave up")
        with bench.raises(Cancelled, "an await of a cancelled read"):
            bench.run(landed(cancelled))


@pytest.mark.clause("readback.async", requires=())
def test_reads_leave_the_loops_own_executor_to_the_program(bench: Bench) -> None:
    device = bench.open()
    values = list(range(1, 9))
    buffers = stamped(bench, device, values, 200_000)
    leave = threading.Event()

    async def one(pool: Any, buffer: Any) -> NDArray[Any]:
        return await landed(await pool.read_async(buffer))

    async def beside_a_busy_executor() -> list[NDArray[Any]]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, leave.wait, 2 * bench.patience)
        try:
            with device.readback_pool(max_pending_ops=2, timeout=None, buffer_size=200_000) as pool:
                reads = asyncio.gather(*(one(pool, buffer) for buffer in buffers))
                done, _ = await asyncio.wait([asyncio.ensure_future(reads)], timeout=bench.patience / 2)
                bench.check(done, "reads waited for a thread of the loop's default executor, which was busy")
                return await reads
        finally:
            leave.set()
            await busy

    for value, array in zip(values, bench.run(beside_a_busy_executor(), "reads"), strict=True):
        bench.same(array, all_of(value, 200_000), "a read beside a busy executor")


@pytest.mark.clause("readback.async")
def test_who_is_cancelled_while_waiting_for_a_block_leaves_at_once(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [5])

    async def cancelled_anywhere() -> None:
        tasks = [asyncio.ensure_future(pool.read_async(buffer)) for _ in range(MANY)]
        for index in bench.random.permutation(MANY)[: MANY // 2]:
            if bench.random.random() < 0.5:
                await asyncio.sleep(0)
            tasks[index].cancel()
        # The rest are cancelled as the loop ends, which it does at once.

    with device.readback_pool(max_pending_ops=2, timeout=None, buffer_size=4096) as pool:
        with bench.hold(device, "download") as hold:
            hold.promptly(lambda: asyncio.run(cancelled_anywhere()))
        for _ in range(4):
            read = bench.thread(pool.read, buffer)
            handle = bench.result(read, "a read of a pool whose waiting reads were cancelled")
            bench.same(take(bench, handle), all_of(5), "a read after others were cancelled")
        del handle
        bench.until(lambda: not pool.stats().pending_operations, "the end of reads that were cancelled")
