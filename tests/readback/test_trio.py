"""Points, reads and many of both under trio: the same answers as under asyncio, and no thread more."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Busy, Closed, KernelError
from forge3d_core.protocols import Binding, KernelSource

trio: Any = pytest.importorskip("trio")
pytest.importorskip("trio.testing")


def test_a_point_and_a_read(device: AssembledDevice) -> None:
    buffer = device.create_buffer(1 << 20)

    async def main() -> None:
        with device.staging_ring() as ring:
            data = np.arange(1 << 20, dtype=np.uint32).view(np.uint8)[: 1 << 20]
            await ring.upload(data, buffer)
        async with device.readback_pool() as pool:
            assert (await pool.read(buffer) == data).all()  # more than 64 KiB: copied by a worker
            handle = await pool.read_async(buffer, nbytes=100)
            assert (await handle == data[:100]).all()

    trio.run(main)


def test_a_wait_is_a_wait(device: AssembledDevice) -> None:
    """The work is held until other tasks have run."""
    order: list[str] = []

    async def main() -> None:
        hold = device.driver.hold("compute")
        point = device.submit(device.command_list())

        async def wait() -> None:
            await point
            order.append("point")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            order.append("others")
            hold.release()

    trio.run(main)
    assert order == ["others", "point"]


def test_reads_wait_in_line_for_a_block(device: AssembledDevice) -> None:
    source = device.create_buffer(64)
    seen: list[int] = []

    async def main() -> None:
        async with device.readback_pool(max_pending_ops=2) as pool:
            before = threading.active_count()

            async def one(number: int) -> None:
                handle = await pool.read_async(source)
                assert (await handle).shape == (64,)
                seen.append(number)

            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(one, number)
            assert threading.active_count() <= before + 2  # a watcher for each of two lanes
            assert pool.stats().pending_operations == 0

    trio.run(main)
    assert sorted(seen) == list(range(200))


def test_a_cancelled_wait_leaves_nothing(device: AssembledDevice) -> None:
    source = device.create_buffer(64)

    async def main() -> None:
        async with device.readback_pool(max_pending_ops=1) as pool:
            hold = device.driver.hold("download")
            handle = pool.read(source)
            for wait in (handle, handle.point):
                with trio.move_on_after(0.01) as scope:
                    await wait
                assert scope.cancelled_caught
            with trio.move_on_after(0.01) as scope:
                await pool.read_async(source)
            assert scope.cancelled_caught
            hold.release()
            assert (await handle == 0).all()
            assert (await (await pool.read_async(source)) == 0).all()
            assert pool.stats().pending_operations == 0

    trio.run(main)


def test_failures_are_raised_where_they_are_awaited(device: AssembledDevice) -> None:
    def fail(_threads: Any, _data: Any) -> None:
        raise ArithmeticError("broken")

    kernel = device.create_kernel(KernelSource("fail", {"host": fail}, (Binding("data"),)))
    buffer = device.create_buffer(64)

    async def main() -> None:
        point = device.submit(device.command_list().dispatch(kernel, [buffer], threads=1))
        with pytest.raises(KernelError):
            await point
        pool = device.readback_pool(backpressure="raise", max_pending_ops=1)
        with device.driver.hold("download"):
            other = pool.read(device.create_buffer(64))
            with pytest.raises(Busy):
                await pool.read_async(device.create_buffer(64))
            del other
        device.close()
        with pytest.raises(Closed):
            await device_point()

    async def device_point() -> None:
        await device.lanes["upload"].timeline.point(10**6)

    trio.run(main)


def test_a_loop_that_has_ended_hears_nothing(device: AssembledDevice) -> None:
    async def leave() -> None:
        with trio.move_on_after(0.01):
            await point

    with device.driver.hold("compute"):
        point = device.submit(device.command_list())
        trio.run(leave)
    point.wait()
