"""Reads of more than the budget holds: piece by piece, exact, and within the budget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import BudgetError, Cancelled, Closed, DeviceLost, TooLarge
from forge3d_core.units import KIB, MIB

LIMIT = MIB
SELECTORS = ["", "?pitch=256&align=4", "?chaos=1&seed=5&align=4", "?chaos=1&seed=6"]


@pytest.fixture
def device(open_device: Callable[..., AssembledDevice]) -> AssembledDevice:
    return open_device(budget=LIMIT)


def filled(device: AssembledDevice, nbytes: int) -> tuple[Any, Any]:
    """Return a buffer and its bytes."""
    data = np.random.default_rng(1).integers(0, 256, nbytes, dtype=np.uint8)
    buffer = device.create_buffer(nbytes)
    np.asarray(buffer.native)[:nbytes] = data
    return buffer, data


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("offset", [0, 1, 4, 7])
@pytest.mark.parametrize("how", ["fresh", "out", "gaps"])
def test_every_byte_comes_and_the_budget_holds(
    open_device: Callable[..., AssembledDevice], selector: str, offset: int, how: str
) -> None:
    device, nbytes = open_device(selector, budget=LIMIT), 3 * LIMIT + 12
    buffer, data = filled(device, nbytes + 8)
    out = {"fresh": None, "out": np.zeros(nbytes, np.uint8), "gaps": np.zeros(nbytes // 2, np.uint32)[::2]}[
        how
    ]
    with device.readback_pool(buffer_size=64 * KIB) as pool:
        handle = pool.read(buffer, offset=offset, nbytes=nbytes, out=out)
        assert handle.is_complete
        read = handle.wait()
        assert out is None or read is out
        assert read.tobytes() == data[offset : offset + nbytes].tobytes()
        assert handle.try_get() is read
        assert (handle.lease().array == read).all()
        stats = pool.stats()
        assert (stats.total_operations, stats.completed_operations, stats.bytes_read) == (1, 1, nbytes)
        assert stats.pending_operations == 0
    assert 0 < device.budget.metrics().peak_host_visible_bytes <= LIMIT


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("gaps", [False, True])
def test_rows_of_a_texture(open_device: Callable[..., AssembledDevice], selector: str, gaps: bool) -> None:
    device = open_device(selector, budget=LIMIT)
    texture = device.create_texture(1003, 700, "rgba8unorm")
    image = np.random.default_rng(1).integers(0, 256, (700, 1003, 4), dtype=np.uint8)
    np.asarray(texture.native)[:] = image.reshape(700, -1)
    out = np.zeros((700, 1000, 8), np.uint8)[..., ::2] if gaps else None
    with device.readback_pool(buffer_size=64 * KIB) as pool:
        read = pool.read(texture, origin=(3, 0), size=(1000, 700), out=out).wait()
    assert (read is out) == gaps
    assert (read == image[:, 3:]).all()
    assert device.budget.metrics().peak_host_visible_bytes <= LIMIT


def test_it_comes_after_what_was_submitted_before(device: AssembledDevice) -> None:
    buffer, _ = filled(device, 2 * LIMIT)
    with (
        device.staging_ring(ring_count=2, buffer_size=64 * KIB) as ring,
        device.readback_pool(buffer_size=64 * KIB) as pool,
    ):
        ring.upload(np.full(2 * LIMIT, 7, np.uint8), buffer)
        assert (pool.read(buffer).wait() == 7).all()


def test_a_pool_that_may_not_wait_refuses_it(device: AssembledDevice) -> None:
    buffer, _ = filled(device, 2 * LIMIT)
    with device.readback_pool(backpressure="raise", buffer_size=64 * KIB) as pool:
        with pytest.raises(BudgetError):
            pool.read(buffer)
        assert pool.stats().total_operations == 0


def test_where_there_is_no_room_for_a_piece_it_is_refused(device: AssembledDevice) -> None:
    buffer, _ = filled(device, 2 * LIMIT)
    with device.readback_pool(buffer_size=4 * KIB, max_pending_ops=1) as pool:
        held = device.host_array(LIMIT - 16 * KIB, np.uint8)
        with pytest.raises((BudgetError, TooLarge)):
            pool.read(buffer)
        del held
        assert pool.read(buffer).wait().nbytes == 2 * LIMIT


def test_a_row_wider_than_the_budget_is_refused(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device(budget=32 * KIB)
    texture = device.create_texture(16 * KIB, 4, "rgba8unorm")
    with device.readback_pool(buffer_size=4 * KIB, pre_allocate=False) as pool, pytest.raises(BudgetError):
        pool.read(texture)


def test_for_a_coroutine(device: AssembledDevice) -> None:
    buffer, data = filled(device, 3 * LIMIT)

    async def main() -> None:
        with device.readback_pool(buffer_size=64 * KIB) as pool:
            assert ((await (await pool.read_async(buffer))) == data).all()

    asyncio.run(main())


def test_a_task_that_is_cancelled_ends_it(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device(budget=LIMIT)
    buffer = device.create_buffer(3 * LIMIT)

    async def main() -> None:
        with device.readback_pool(timeout=None, buffer_size=64 * KIB) as pool, device.driver.hold("download"):
            task = asyncio.ensure_future(pool.read_async(buffer))
            while not device.lanes["download"].timeline.submitted:
                await asyncio.sleep(0)  # a turn of the loop
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.stats().completed_operations == 0

    asyncio.run(main())


@pytest.mark.parametrize("end", ["pool", "device"])
def test_a_close_ends_it(
    open_device: Callable[..., AssembledDevice],
    background: Callable[..., Any],
    until: Callable[..., None],
    patience: float,
    end: str,
) -> None:
    device = open_device(budget=LIMIT, drain_timeout=0.05)
    buffer, pool = device.create_buffer(3 * LIMIT), device.readback_pool(timeout=None, buffer_size=64 * KIB)
    with device.driver.hold("download"):
        reading = background(lambda: pool.read(buffer))
        until(lambda: device.lanes["download"].timeline.submitted > 0)
        {"pool": pool, "device": device}[end].close()
        with pytest.raises((Closed, Cancelled, DeviceLost)):
            reading.result(patience)
