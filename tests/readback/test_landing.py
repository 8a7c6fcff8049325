"""Bytes that cannot land are their own caller's trouble: other reads and the pool go on."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Cancelled
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.readback import handle as readback_handle

from .small import small_pool
from .source import SIZE


def test_only_the_read_itself_raises_that_its_array_became_read_only(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any
) -> None:
    pool = small_pool(device)
    out = np.zeros(SIZE, np.uint8)
    refused = pool.read(buffer, out=out)
    refused.point.wait(20)
    out.flags.writeable = False
    for _ in range(2):  # the first needs the block of the read that is refused
        assert (pool.read(buffer).wait(20) == data).all()
    for ask in (refused.wait, refused.try_get, refused.lease, lambda: asyncio.run(_take(refused))):
        with pytest.raises(ValueError, match="read-only"):
            ask()
    stats = pool.stats()
    assert (stats.completed_operations, stats.failed_operations, stats.pending_operations) == (2, 1, 0)
    assert stats.blocks == 1


@pytest.mark.parametrize("close", ["pool", "device"])
def test_closing_goes_through(device: AssembledDevice, buffer: DeviceBuffer, close: str) -> None:
    pool = small_pool(device)
    out = np.zeros(SIZE, np.uint8)
    refused = pool.read(buffer, out=out)
    refused.point.wait(20)
    out.flags.writeable = False
    (pool if close == "pool" else device).close()
    assert device.budget.metrics().host_visible_bytes == 0
    with pytest.raises(ValueError, match="read-only"):
        refused.wait(20)


def test_no_memory_to_land_in(
    device: AssembledDevice, buffer: DeviceBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_call: Any) -> Any:
        raise MemoryError("on purpose")

    pool = small_pool(device)
    first = pool.read(buffer)
    first.point.wait(20)
    with monkeypatch.context() as short:
        short.setattr(readback_handle, "land", none)
        second = pool.read(buffer)
    assert second.wait(20).nbytes == SIZE
    for _ in range(2):
        with pytest.raises(MemoryError, match="on purpose"):
            first.wait(0)


def test_no_memory_for_a_synchronous_read(
    device: AssembledDevice, buffer: DeviceBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_call: Any) -> Any:
        raise MemoryError("on purpose")

    pool = small_pool(device, backpressure="degrade")
    lease = pool.read(buffer).lease(20)
    with monkeypatch.context() as short:
        short.setattr(readback_handle, "land", none)
        with pytest.raises(MemoryError, match="on purpose"):
            pool.read(buffer)
    lease.release()
    assert device.budget.metrics().host_visible_bytes == pool.stats().block_bytes


def test_an_interrupt_leaves_the_read_as_it_was(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_call: Any) -> Any:
        raise KeyboardInterrupt

    pool = small_pool(device)
    handle = pool.read(buffer)
    handle.point.wait(20)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(readback_handle, "land", interrupt)
        for ask in (handle.wait, lambda: pool.read(buffer)):
            with pytest.raises(KeyboardInterrupt):
                ask()
    assert pool.stats().pending_operations == 1
    assert (pool.read(buffer).wait(20) == data).all()
    assert (handle.wait(0) == data).all()


def test_an_interrupted_close_shows_nothing_of_blocks_that_are_gone(
    device: AssembledDevice, buffer: DeviceBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_call: Any) -> Any:
        raise KeyboardInterrupt

    pool = device.readback_pool()
    handles = [pool.read(buffer) for _ in range(2)]
    device.wait_idle(20)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(readback_handle, "land", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.close()
    assert device.budget.metrics().host_visible_bytes == 0
    for handle in handles:
        with pytest.raises(Cancelled):
            handle.wait(0)


def test_a_failure_keeps_nothing_of_whoever_met_it(device: AssembledDevice, buffer: DeviceBuffer) -> None:
    class Mine:
        pass

    pool = small_pool(device)
    out = np.zeros(SIZE, np.uint8)
    handle = pool.read(buffer, out=out)
    handle.point.wait(20)
    out.flags.writeable = False

    def meet() -> weakref.ref[Mine]:
        mine = Mine()
        with pytest.raises(ValueError, match="read-only"):
            handle.wait(0)
        return weakref.ref(mine)

    met = meet()
    gc.collect()
    assert met() is None, "it lives on in what the handle keeps"
    with pytest.raises(ValueError, match="read-only"):
        handle.wait(0)


def test_a_block_that_an_interrupted_submission_may_write_is_used_no_more(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = small_pool(device)
    submit = device.submit_commands

    def interrupted(*commands: Any) -> Any:
        submit(*commands)
        raise KeyboardInterrupt

    with device.native.hold("download"):
        with monkeypatch.context() as once:
            once.setattr(device, "submit_commands", interrupted)
            with pytest.raises(KeyboardInterrupt):
                pool.read(buffer)
        second = pool.read(buffer)
    assert (second.wait(20) == data).all()
    stats = pool.stats()
    assert (stats.block_allocations, stats.pending_operations) == (3, 0)  # and the small one at first
    pool.close()
    assert device.budget.metrics().host_visible_bytes == 0


async def _take(handle: Any) -> Any:
    return await handle
