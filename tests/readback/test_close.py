"""What a pool gives back to the budget: all when it closes, idle blocks before a refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import BudgetExceeded, Cancelled, Closed
from forge3d_core.memory.allocator import Allocator
from forge3d_core.memory.resources import DeviceBuffer


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


@pytest.mark.parametrize(("close", "expected"), [("pool", Cancelled), ("device", Closed)])
def test_a_close_between_a_submission_and_its_entry(
    device: AssembledDevice, buffer: DeviceBuffer, monkeypatch: pytest.MonkeyPatch, close: str, expected: Any
) -> None:
    """The block has gone with the close, which cannot have seen that there is another read."""
    pool = device.readback_pool()
    submit = device.submit_commands

    def closed_meanwhile(*commands: Any) -> Any:
        point = submit(*commands)
        point.wait(20)
        (pool if close == "pool" else device).close()
        return point

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(device, "submit_commands", closed_meanwhile)
        handle = pool.read(buffer)
    assert device.budget.metrics().host_visible_bytes == 0
    for ask in (handle.wait, handle.try_get, handle.lease):
        with pytest.raises(expected):
            ask()
    stats = pool.stats()
    assert stats.total_operations == 1 == stats.cancelled_operations + stats.failed_operations


def test_a_close_while_a_block_is_made(
    device: AssembledDevice, buffer: DeviceBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = device.readback_pool(pre_allocate=False)
    allocate = Allocator.block

    def closed_meanwhile(*request: Any) -> Any:
        block = allocate(*request)
        pool.close()
        return block

    monkeypatch.setattr(Allocator, "block", closed_meanwhile)
    with pytest.raises(Closed, match="pool was closed"):
        pool.read(buffer)
    assert device.budget.metrics().host_visible_bytes == 0
    assert pool.stats().pending_operations == 0


def test_a_close_while_the_budget_asks_for_idle_blocks(
    device: AssembledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = device.readback_pool(max_pending_ops=4)
    release = Allocator.release

    def closed_meanwhile(allocator: Allocator, block: Any) -> None:
        pool.close()
        release(allocator, block)

    monkeypatch.setattr(Allocator, "release", closed_meanwhile)
    budget = device.budget
    with budget.reserve(budget.limit):  # which takes all that the pool has
        assert pool.closed
        assert pool.stats().blocks == 0


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
