"""Coroutines that wait for a block: in a line, on their own loop, without a thread."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Busy, Closed, DeviceLost, FenceTimeout
from forge3d_core.readback.pool import Pool

BYTES = 256 * 1024
"""So many that a copy does not happen on the loop."""


class Refusing(ThreadPoolExecutor):
    """The default executor of a loop that other tasks keep busy."""

    def submit(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("a read used the loop's default executor")


def run(main: Any) -> Any:
    """Run a coroutine function under asyncio, where nothing may use the default executor."""

    async def guarded() -> Any:
        asyncio.get_running_loop().set_default_executor(Refusing(1))
        return await main()

    return asyncio.run(guarded())


@pytest.fixture
def pool(device: AssembledDevice) -> Pool:
    return device.readback_pool(max_pending_ops=2, buffer_size=BYTES, timeout=None)


def test_a_hundred_reads_share_two_blocks(device: AssembledDevice, pool: Pool) -> None:
    buffers = [device.create_buffer(BYTES) for _ in range(4)]
    for value, buffer in enumerate(buffers):
        device.submit(device.command_list().fill(buffer, value + 1))

    async def one(number: int) -> None:
        handle = await pool.read_async(buffers[number % 4])
        await asyncio.sleep(0)
        assert (await handle == number % 4 + 1).all()

    async def main() -> None:
        await asyncio.gather(*map(one, range(100)))

    threads = threading.active_count()
    run(main)
    assert threading.active_count() <= threads + 3  # a watcher, the lane's, one that copies
    stats = pool.stats()
    assert (stats.completed_operations, stats.pending_operations, stats.blocks) == (100, 0, 2)
    assert not pool.blocks.line.places


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("held", [True, False])
def test_reads_that_are_cancelled_anywhere_leave_nothing_behind(
    device: AssembledDevice, pool: Pool, until: Callable[..., None], seed: int, held: bool
) -> None:
    draw = random.Random(seed)
    buffer = device.create_buffer(BYTES)
    hold = device.driver.hold("download") if held else contextlib.nullcontext()

    async def one() -> None:
        handle = await pool.read_async(buffer)
        await handle

    async def main() -> None:
        tasks = [asyncio.ensure_future(one()) for _ in range(100)]
        for task in draw.sample(tasks, 100 if held else 60):
            if draw.random() < 0.5:
                await asyncio.sleep(0)
            task.cancel()
        if held:
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)
        # The rest are cancelled by asyncio.run, which then closes the loop at once.

    started = time.monotonic()
    run(main)
    assert time.monotonic() - started < 10  # the pool's timeout is for ever
    with hold:
        pass
    device.wait_idle(10)
    assert not pool.blocks.line.places
    assert [pool.read(buffer).wait(10).nbytes for _ in range(4)] == [BYTES] * 4
    until(lambda: pool.stats().pending_operations == 0)  # a worker may still be landing what was cancelled
    for lane in device.lanes.values():
        watcher = lane.timeline._watcher
        assert watcher is None or not watcher._callbacks


def test_leases_that_need_the_executor_come_by_it(device: AssembledDevice, pool: Pool) -> None:
    buffer = device.create_buffer(64)

    async def user() -> int:
        handle = await pool.read_async(buffer)
        await handle.point
        with handle.lease(0) as shown:
            return await asyncio.to_thread(lambda: int(shown[0]))

    async def main() -> list[int]:
        with ThreadPoolExecutor(1) as executor:
            asyncio.get_running_loop().set_default_executor(executor)
            return await asyncio.gather(*(user() for _ in range(40)))

    assert asyncio.run(main()) == [0] * 40


def test_first_come_first_served(device: AssembledDevice, pool: Pool) -> None:
    buffer = device.create_buffer(64)
    order: list[int] = []

    async def one(number: int) -> None:
        handle = await pool.read_async(buffer)
        order.append(number)
        await handle

    async def main() -> None:
        with device.driver.hold("download"):
            tasks = [asyncio.ensure_future(one(number)) for number in range(12)]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    run(main)
    assert order == sorted(order)


def test_the_timeout_is_the_pools(device: AssembledDevice) -> None:
    buffer = device.create_buffer(64)
    pool = device.readback_pool(max_pending_ops=1, timeout=0.05)

    async def main() -> None:
        with device.driver.hold("download"):
            kept = await pool.read_async(buffer)
            with pytest.raises(FenceTimeout, match=r"no block came free in 0\.05 s"):
                await pool.read_async(buffer)
        await kept

    run(main)


def test_the_other_policies_hold_for_coroutines(device: AssembledDevice) -> None:
    buffer = device.create_buffer(BYTES)
    strict = device.readback_pool(max_pending_ops=1, backpressure="raise")
    lenient = device.readback_pool(max_pending_ops=1, backpressure="degrade")

    async def main() -> None:
        hold = device.driver.hold("download")
        kept = [await strict.read_async(buffer), await lenient.read_async(buffer)]
        with pytest.raises(Busy):
            await strict.read_async(buffer)
        degraded = asyncio.ensure_future(lenient.read_async(buffer))
        given_up = asyncio.ensure_future(lenient.read_async(buffer))
        await asyncio.sleep(0.01)
        assert not degraded.done()
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        hold.release()
        assert (await (await degraded)).nbytes == BYTES
        for handle in kept:
            await handle

    run(main)
    assert lenient.stats().cancelled_operations == 1
    assert lenient.stats().blocks == 1


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda device, _pool: device.driver.lose("a test"), DeviceLost),
        (lambda device, _pool: device.close(), Closed),
        (lambda _device, pool: pool.close(), Closed),
    ],
    ids=["lost", "closed", "pool closed"],
)
def test_who_waits_hears_of_the_end(
    open_device: Callable[..., AssembledDevice], end: Callable[..., None], error: type[Exception]
) -> None:
    device = open_device(drain_timeout=0.05)
    buffer, pool = device.create_buffer(64), device.readback_pool(max_pending_ops=1, timeout=None)

    async def main() -> list[Any]:
        device.driver.hold("download")
        kept = await pool.read_async(buffer)
        tasks = [asyncio.ensure_future(pool.read_async(buffer)) for _ in range(20)]
        await asyncio.sleep(0.01)
        await asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(1), end, device, pool)
        assert kept is not None
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(outcome) for outcome in run(main)} == {error}


def test_a_lease_that_ends_lets_the_next_in(device: AssembledDevice) -> None:
    buffer, pool = device.create_buffer(64), device.readback_pool(max_pending_ops=1, timeout=None)

    async def main() -> None:
        lease = pool.read(buffer).lease(10)
        waiting = asyncio.ensure_future(pool.read_async(buffer))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        lease.release()
        assert (await (await waiting)).nbytes == 64

    run(main)


def test_a_loop_that_stands_still_keeps_no_other_waiting(device: AssembledDevice) -> None:
    buffer, pool = device.create_buffer(64), device.readback_pool(max_pending_ops=1, timeout=None)
    lease = pool.read(buffer).lease(10)
    stopped = asyncio.new_event_loop()
    first = stopped.create_task(pool.read_async(buffer))
    stopped.run_until_complete(asyncio.sleep(0.01))
    assert pool.blocks.line.places

    async def main() -> int:
        waiting = asyncio.ensure_future(pool.read_async(buffer))
        await asyncio.sleep(0.01)
        lease.release()
        return (await (await waiting)).nbytes

    assert run(main) == 64
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        stopped.run_until_complete(first)
    stopped.close()
    assert not pool.blocks.line.places


def test_what_had_landed_starts_no_thread_after_close(
    open_device: Callable[..., AssembledDevice],
) -> None:
    device = open_device()
    buffer, pool = device.create_buffer(BYTES), device.readback_pool()
    handle = pool.read(buffer)
    expected = handle.wait(10)
    device.close()

    async def main() -> np.ndarray[Any, Any]:
        return await handle

    before = threading.active_count()
    assert run(main) is expected
    assert threading.active_count() <= before  # threads of other tests may end meanwhile
