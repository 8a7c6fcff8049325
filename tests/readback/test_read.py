"""When a read is complete, which bytes it has, and that its block serves the next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import FenceTimeout
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.protocols import Lease, ReadbackHandle, ReadbackPool, ReadbackStream
from forge3d_core.readback.pool import Pool

from .small import small_pool
from .source import SIZE, poke


def test_a_pool_satisfies_its_protocols(pool: Pool, buffer: DeviceBuffer) -> None:
    assert isinstance(pool, ReadbackPool)
    assert isinstance(pool.stream(buffer), ReadbackStream)
    handle = pool.read(buffer)
    assert isinstance(handle, ReadbackHandle)
    assert isinstance(handle.lease(), Lease)


def test_a_read_returns_at_once_and_is_not_early(
    device: AssembledDevice, pool: Pool, buffer: DeviceBuffer
) -> None:
    with device.native.hold("download"):
        handle = pool.read(buffer)
        assert not handle.is_complete
        assert handle.try_get() is None
        with pytest.raises(FenceTimeout):
            handle.wait(0)
        with pytest.raises(FenceTimeout):
            handle.lease(0)
    handle.point.wait(20)
    assert handle.is_complete
    assert handle.try_get() is handle.wait()


def test_the_bytes_are_those_of_the_submission(
    device: AssembledDevice, pool: Pool, buffer: DeviceBuffer, data: Any
) -> None:
    with device.native.hold("download"):
        before = pool.read(buffer)
        overwritten = device.submit(device.command_list().fill(buffer, 7))
        after = pool.read(buffer)
        assert not overwritten.done
    assert (before.wait(20) == data).all()
    assert (after.wait(20) == 7).all()


def test_any_order_any_number_and_the_same_answer(pool: Pool, buffer: DeviceBuffer, data: Any) -> None:
    """Ten reads before the first wait, where four may be pending."""
    handles = [pool.read(buffer, offset=i * 900, nbytes=850 + i) for i in range(10)]
    for i in (7, 0, 9, 3, 1, 2, 8, 6, 5, 4):
        first = handles[i].wait(20)
        assert (first == data[i * 900 : i * 900 + 850 + i]).all()
        assert handles[i].wait() is first
        assert handles[i].try_get() is first
    stats = pool.stats()
    assert (stats.total_operations, stats.completed_operations, stats.pending_operations) == (10, 10, 0)
    assert stats.bytes_read == sum(850 + i for i in range(10))
    assert stats.block_allocations == stats.blocks == 4


def test_nothing_is_allocated_in_the_steady_state(device: AssembledDevice, buffer: DeviceBuffer) -> None:
    pool = device.readback_pool(max_pending_ops=2, buffer_size=64)
    for nbytes in (100, 9000, 9000):
        pool.read(buffer, nbytes=nbytes).wait(20)
    handles = [pool.read(buffer) for _ in range(3)]
    steady = pool.stats().block_allocations
    for handle in handles:
        handle.wait(20)
    for nbytes in (1, SIZE, 5, 9000, SIZE, 4096) * 3:
        pool.read(buffer, nbytes=nbytes).wait(20)
    assert pool.stats().block_allocations == steady
    assert pool.stats().blocks <= 2
    assert device.budget.metrics().host_visible_bytes == pool.stats().block_bytes


def test_a_pooled_block_shows_no_other_reads_bytes(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any
) -> None:
    pool = small_pool(device)
    kept = pool.read(buffer, nbytes=4000).wait(20)
    poke(buffer, np.zeros(SIZE, np.uint8))
    assert not pool.read(buffer, nbytes=4000).wait(20).any()
    assert (kept == data[:4000]).all()


def test_many_threads_read_their_own_bytes(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any, background: Callable[..., Any], patience: float
) -> None:
    pool = device.readback_pool(max_pending_ops=3)
    barrier = threading.Barrier(6)

    def read(seed: int) -> None:
        draw = np.random.default_rng(seed)
        barrier.wait(patience)
        held: list[tuple[int, Any]] = []
        for _ in range(40):
            start = int(draw.integers(0, SIZE - 64))
            handle = pool.read(buffer, offset=start, nbytes=64)
            match int(draw.integers(0, 4)):
                case 0:
                    handle.cancel()
                case 1:
                    with handle.lease(patience) as lent:
                        assert (lent == data[start : start + 64]).all()
                        del lent
                case 2:
                    held.append((start, handle))
                case _:
                    assert (handle.wait(patience) == data[start : start + 64]).all()
        for start, handle in held:
            assert (handle.wait(patience) == data[start : start + 64]).all()

    for reading in [background(read, seed) for seed in range(6)]:
        reading.result(patience)
    device.wait_idle(patience)
    stats = pool.stats()
    assert stats.pending_operations == 0
    assert stats.total_operations == 240 == stats.completed_operations + stats.cancelled_operations
    assert stats.blocks == stats.block_allocations == 3
