"""Ten thousand handles at once: no thread and no block for each, and nothing left of them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from forge3d_core.device.device import AssembledDevice

trio: Any = pytest.importorskip("trio")

MANY = 10_000
DEPTH = 256

One = Callable[[], Awaitable[None]]


def under_asyncio(one: One, count: int) -> None:
    async def main() -> None:
        await asyncio.gather(*(one() for _ in range(count)))

    asyncio.run(main())


def under_trio(one: One, count: int) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one)

    trio.run(main)


@pytest.mark.parametrize("run", [under_asyncio, under_trio])
def test_ten_thousand_handles_cost_no_thread_and_leave_nothing(
    device: AssembledDevice, run: Callable[[One, int], None]
) -> None:
    buffer = device.create_buffer(256)
    pool = device.readback_pool(max_pending_ops=DEPTH, buffer_size=256, timeout=None)
    begun, handles, threads = 0, [], []

    def lap(count: int) -> int:
        """Have ``count`` tasks read while nothing comes, and then let it come; return the objects left."""
        nonlocal begun
        begun, hold = 0, device.driver.hold("download")

        async def one() -> None:
            nonlocal begun
            begun += 1
            if begun == count:
                threads.append(threading.active_count())
                assert len(pool.blocks.line.places) >= count - 1 - DEPTH
                hold.release()
            handles.append(await pool.read_async(buffer))
            await handles[-1]

        run(one, count)
        assert len(handles) == count
        handles.clear()
        gc.collect()
        return len(gc.get_objects())

    small = lap(2 * DEPTH)
    assert lap(MANY) - small < MANY / 20
    assert threads[1] <= threads[0]  # the lane's, and those that watch and land
    stats = pool.stats()
    assert (stats.completed_operations, stats.pending_operations) == (MANY + 2 * DEPTH, 0)
    assert stats.blocks == stats.block_allocations == DEPTH
    assert not pool.blocks.line.places
