"""The handle that a caller holds: cancelled, dropped, failed, awaited."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Busy, Cancelled, FenceTimeout, KernelError, StateError
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.protocols import KernelSource
from forge3d_core.readback.handle import Handle
from forge3d_core.readback.pool import Pool
from forge3d_core.timeline.timeline import Timeline

from .small import small_pool
from .source import SIZE, poke


@pytest.mark.parametrize("how", ["cancel", "drop"])
def test_who_gives_up_gives_the_block_back_when_the_device_is_done(
    device: AssembledDevice, buffer: DeviceBuffer, how: str
) -> None:
    pool = small_pool(device, backpressure="raise")
    with device.native.hold("download"):
        handle = pool.read(buffer)
        point = handle.point
        if how == "cancel":
            handle.cancel()
            handle.cancel()
        del handle
        gc.collect()
        assert pool.stats().cancelled_operations == 1
        assert pool.stats().pending_operations == 1  # the device may still write the block
        with pytest.raises(Busy):
            pool.read(buffer)
    point.wait(20)
    assert pool.stats().pending_operations == 0
    assert pool.read(buffer).wait(20).nbytes == SIZE


def test_a_cancelled_read_has_no_bytes_and_keeps_its_block_while_it_flies(
    device: AssembledDevice, buffer: DeviceBuffer
) -> None:
    pool = small_pool(device, backpressure="raise")
    with device.native.hold("download"):
        handle = pool.read(buffer)
        handle.cancel()
        for ask in (lambda: handle.wait(0), handle.try_get, lambda: handle.lease(0)):
            with pytest.raises(Cancelled):
                ask()
        assert pool.stats().pending_operations == 1, "the block went back under the device"
        with pytest.raises(Busy):
            pool.read(buffer)


def test_cancelling_too_late_is_fine(pool: Pool, buffer: DeviceBuffer) -> None:
    handle = pool.read(buffer)
    first = handle.wait(20)
    handle.cancel()
    assert handle.wait() is first
    assert pool.stats().cancelled_operations == 0


def test_a_failed_read_raises_and_is_counted(device: AssembledDevice, buffer: DeviceBuffer) -> None:
    def fail(_threads: object) -> None:
        raise RuntimeError("on purpose")

    pool = device.readback_pool()
    kernel = device.create_kernel(KernelSource("fail", {"host": fail}))
    with device.native.hold("download"):
        device.submit(device.command_list().dispatch(kernel, [], threads=1), lane="download")
        waited, asked, awaited = (pool.read(buffer) for _ in range(3))
    with pytest.raises(KernelError, match="on purpose"):
        waited.wait(20)
    with pytest.raises(KernelError):
        asked.try_get()
    with pytest.raises(KernelError):
        asyncio.run(_take(awaited))
    for handle in (waited, asked, awaited):
        with pytest.raises(KernelError):
            handle.wait(0)
        assert not handle.is_complete
    stats = pool.stats()
    assert (stats.total_operations, stats.failed_operations, stats.pending_operations) == (3, 3, 0)


async def _take(handle: Handle) -> Any:
    return await handle


def test_an_await_that_no_thread_can_wake_leaves_the_read(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = small_pool(device)
    with device.native.hold("download"):
        handle = pool.read(buffer)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(StateError, match="no thread could be started that calls back"):
                asyncio.run(_take(handle))
        assert not handle._awaiting
    assert (handle.wait(20) == data).all()
    assert (pool.read(buffer).wait(20) == data).all()
    stats = pool.stats()
    assert (stats.completed_operations, stats.failed_operations, stats.blocks) == (2, 0, 1)


class Alarm(Exception):
    """What a signal's handler may raise anywhere, and no BaseException."""


@pytest.mark.parametrize("how", ["wait", "lease", "await", "read"])
def test_a_wait_that_ends_by_an_error_of_its_own_leaves_the_read(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def ring(_timeline: Timeline, *_: object) -> None:
        raise Alarm

    pool = small_pool(device)
    with device.native.hold("download"):
        handle = pool.read(buffer)
        ways: dict[str, Callable[[], object]] = {
            "wait": handle.wait,
            "lease": handle.lease,
            "await": lambda: asyncio.run(_take(handle)),
            "read": lambda: pool.read(buffer),  # waits for the one that has the block
        }
        with monkeypatch.context() as patched:
            patched.setattr(Timeline, "wait", ring)
            patched.setattr(Timeline, "watch", ring)
            with pytest.raises(Alarm):
                ways[how]()
    assert (handle.wait(20) == data).all()
    assert (pool.read(buffer).wait(20) == data).all()
    stats = pool.stats()
    assert (stats.completed_operations, stats.failed_operations, stats.blocks) == (2, 0, 1)


def test_gathering_keeps_the_loop_running(device: AssembledDevice, buffer: DeviceBuffer, data: Any) -> None:
    async def main() -> None:
        beats = 0
        over = asyncio.Event()

        async def heart() -> None:
            nonlocal beats
            while not over.is_set():
                beats += 1
                await asyncio.sleep(0)

        beating = asyncio.ensure_future(heart())
        async with device.readback_pool(max_pending_ops=2) as pool:
            hold = device.native.hold("download")
            reading = [asyncio.ensure_future(pool.read_async(buffer, offset=i)) for i in range(4)]
            while beats < 50:
                await asyncio.sleep(0)
            hold.release()
            handles = await asyncio.wait_for(asyncio.gather(*reading), 20)
            arrays = await asyncio.wait_for(asyncio.gather(*handles), 20)
            for i, array in enumerate(arrays):
                assert (array == data[i:]).all()
                assert await handles[i] is array
        over.set()
        await beating

    asyncio.run(main())


def test_a_large_read_is_copied_beside_the_loop(device: AssembledDevice) -> None:
    buffer = device.create_buffer("1 MiB")
    poke(buffer, np.full(1 << 20, 9, np.uint8))

    async def main() -> Any:
        async with device.readback_pool() as pool:
            first, second = await asyncio.gather(pool.read(buffer), pool.read(buffer))
            return first, second

    for array in asyncio.run(main()):
        assert (array == 9).all()


def _ended(take: Callable[[], object]) -> str:
    try:
        take()
    except Exception as error:
        return type(error).__name__
    return "bytes"


@pytest.mark.parametrize("end", ["cancel", "close"])
@pytest.mark.parametrize("timeout", [None, 20])
def test_a_cancel_wakes_who_waits_while_the_device_still_works(
    device: AssembledDevice, buffer: DeviceBuffer, end: str, timeout: float | None
) -> None:
    pool = device.readback_pool(max_pending_ops=1, buffer_size=4096)
    with device.native.hold("download"), ThreadPoolExecutor(3) as threads:
        handle = pool.read(buffer)

        async def main() -> Any:
            return await handle

        takes = (lambda: handle.wait(timeout), lambda: handle.lease(timeout), lambda: asyncio.run(main()))
        waiting = [threads.submit(_ended, take) for take in takes]
        threading.Event().wait(0.1)
        assert not any(future.done() for future in waiting)
        handle.cancel() if end == "cancel" else pool.close()
        assert [future.result(10) for future in waiting] == ["Cancelled"] * 3
        assert not handle.point.done


def test_a_wait_that_outlasts_its_looks_still_ends_in_time_and_with_bytes(
    device: AssembledDevice, pool: Pool, buffer: DeviceBuffer, data: Any
) -> None:
    with device.native.hold("download"):
        handle = pool.read(buffer)
        started = time.monotonic()
        with pytest.raises(FenceTimeout):
            handle.wait(0.2)
        assert 0.2 <= time.monotonic() - started < 5
        with pytest.raises(FenceTimeout):
            handle.lease(0)
    assert (handle.wait(20) == data).all()


def test_nobody_stays_noted_who_awaited(device: AssembledDevice, pool: Pool, buffer: DeviceBuffer) -> None:
    async def main() -> Handle:
        with device.native.hold("download"):
            handle = pool.read(buffer)
            task = asyncio.ensure_future(_take(handle))
            given_up = asyncio.ensure_future(_take(handle))
            await asyncio.sleep(0.01)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
        await task
        return handle

    assert not asyncio.run(main())._awaiting


def test_a_cancelled_await_leaves_the_read(
    device: AssembledDevice, pool: Pool, buffer: DeviceBuffer, data: Any
) -> None:
    async def main() -> Any:
        with device.native.hold("download"):
            handle = pool.read(buffer)
            task = asyncio.ensure_future(_take(handle))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return await handle

    assert (asyncio.run(main()) == data).all()
