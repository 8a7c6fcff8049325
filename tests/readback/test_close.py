"""What a pool gives back to the budget: all when it closes, idle blocks before a refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.device import AssembledDevice
from forge3d_core.errors import BudgetExceeded, Cancelled, Closed
from forge3d_core.memory import DeviceBuffer


def test_a_closed_pool(device: AssembledDevice, buffer: DeviceBuffer, data: Any) -> None:
    pool = device.readback_pool()
    landed, complete = pool.read(buffer), pool.read(buffer)
    landed.wait(20)
    complete.point.wait(20)
    hold = device.native.hold("download")
    pending = pool.read(buffer)
    pool.close()
    pool.close()
    assert pool.closed
    for handle in (landed, complete):
        assert (handle.wait(0) == data).all(), "a completed handle keeps what it has"
    with pytest.raises(Cancelled):
        pending.wait(0)
    for use in (lambda: pool.read(buffer), lambda: pool.stream(buffer)):
        with pytest.raises(Closed):
            use()
    assert device.budget.metrics().host_visible_bytes > 0  # in flight
    hold.release()
    device.wait_idle(20)
    assert device.budget.metrics().host_visible_bytes == 0
    assert pool.stats().total_operations == 3


def test_idle_blocks_are_given_back_before_a_refusal(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device(budget="64 KiB")
    buffer = device.create_buffer(8192)
    pool = device.readback_pool(max_pending_ops=4, buffer_size="16 KiB")
    assert device.budget.metrics().host_visible_bytes == 64 * 1024
    lease = pool.read(buffer).lease(20)
    ring = device.staging_ring(ring_count=1, buffer_size="32 KiB")
    assert pool.stats().blocks == 2
    assert device.budget.metrics().refusals == 0
    lease.release()
    ring.close()
    assert pool.read(buffer).wait(20).nbytes == 8192


def test_no_budget_no_pool(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device(budget=0)
    with pytest.raises(BudgetExceeded):
        device.readback_pool()
    pool = device.readback_pool(pre_allocate=False)
    buffer = device.create_buffer(4)
    for _ in range(3):
        with pytest.raises(BudgetExceeded):
            pool.read(buffer)
    assert pool.stats().pending_operations == 0
    assert pool.read(buffer, nbytes=0).wait().size == 0
