"""A pool whose blocks are all taken: it waits, raises or degrades, as configured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Busy, Closed, FenceTimeout, UsageError
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.readback.backpressure import land
from forge3d_core.readback.pool import Pool
from forge3d_core.readback.state import Land, PoolState

from .small import small_pool
from .source import SIZE


def test_waiting_for_a_block(
    device: AssembledDevice,
    buffer: DeviceBuffer,
    data: Any,
    background: Callable[..., Any],
    until: Any,
    patience: float,
) -> None:
    pool = small_pool(device)
    hold = device.native.hold("download")
    first = pool.read(buffer)
    second = background(pool.read, buffer, nbytes=10)
    until(lambda: pool.stats().waits == 1)
    assert pool.stats().pending_operations == 1
    assert not second.done()
    hold.release()
    assert (second.result(patience).wait(patience) == data[:10]).all()
    assert (first.wait(0) == data).all()


class Wanting:
    """What asks for a block."""


def test_what_makes_room_moves_out_no_later_read_of_the_block(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any, patience: float
) -> None:
    """Between the answer and the move another thread may do the same, and read into the block again."""
    pool = small_pool(device)
    first = pool.read(buffer)
    first.point.wait(patience)
    step = pool.blocks.claim([Wanting()], 10)  # type: ignore[list-item]
    assert isinstance(step, Land)
    assert (first.wait(patience) == data).all()
    with device.native.hold("download"):
        later = pool.read(buffer)
        land(step.slot)
        assert later.slot is not None
    assert (later.wait(patience) == data).all()


def test_waiting_for_a_block_times_out(device: AssembledDevice, buffer: DeviceBuffer) -> None:
    pool = small_pool(device, timeout=0.001)
    with device.native.hold("download"):
        handle = pool.read(buffer)
        with pytest.raises(FenceTimeout, match=r"'download'.*1 of 1 reads"):
            pool.read(buffer)
    lease = handle.lease(20)
    with pytest.raises(FenceTimeout, match="release a lease"):
        pool.read(buffer)
    lease.release()
    pool.read(buffer).wait(20)


@pytest.mark.parametrize("end", ["close", "cancel"])
def test_who_waits_for_a_block_notices(
    device: AssembledDevice,
    buffer: DeviceBuffer,
    background: Callable[..., Any],
    until: Any,
    patience: float,
    end: str,
) -> None:
    """A block that comes free otherwise, or a close, is noticed while the oldest read is stuck."""
    pool = small_pool(device, timeout=None, max_pending_ops=2)
    lease = pool.read(buffer).lease(20)
    with device.native.hold("download"):
        stuck = pool.read(buffer)
        waiting = background(pool.read, buffer)
        until(lambda: pool.stats().waits == 1)
        if end == "close":
            pool.close()
            assert isinstance(waiting.exception(patience), Closed)
        else:
            lease.release()
            assert not waiting.result(patience).is_complete
        assert not stuck.point.done
    lease.release()


@pytest.mark.parametrize("moment", ["before the submission", "after it"])
def test_an_interrupted_read_leaves_its_place(
    device: AssembledDevice, buffer: DeviceBuffer, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupt(*_call: Any) -> None:
        raise KeyboardInterrupt

    pool = small_pool(device, backpressure="raise")
    with monkeypatch.context() as interrupted:
        if moment == "after it":
            interrupted.setattr(PoolState, "started", interrupt)
        else:
            interrupted.setattr(Pool, "_start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.read(buffer)
        with pytest.raises(KeyboardInterrupt):
            pool.stream(buffer).push()
    device.wait_idle(20)
    assert pool.stats().pending_operations == 0
    assert pool.read(buffer).wait(20).nbytes == SIZE


def test_raising_when_busy(device: AssembledDevice, buffer: DeviceBuffer) -> None:
    pool = small_pool(device, backpressure="raise")
    with device.native.hold("download"):
        first = pool.read(buffer)
        with pytest.raises(Busy, match=r"1 read\(s\) are pending"):
            pool.read(buffer)
        assert pool.stats().waits == 1
    first.point.wait(20)
    pool.read(buffer).wait(20)  # the first has completed: its bytes move out of the way
    assert first.wait(0).nbytes == SIZE


def test_degrading_to_a_synchronous_read(
    device: AssembledDevice,
    buffer: DeviceBuffer,
    data: Any,
    background: Callable[..., Any],
    until: Any,
    patience: float,
) -> None:
    pool = small_pool(device, backpressure="degrade")
    hold = device.native.hold("download")
    first = pool.read(buffer)
    second = background(pool.read, buffer, offset=1)
    until(lambda: pool.stats().waits == 1 and pool.stats().total_operations == 2)
    assert pool.stats().pending_operations == 1
    hold.release()
    handle = second.result(patience)
    assert handle.is_complete
    assert (handle.wait(0) == data[1:]).all()
    assert (first.wait(patience) == data).all()
    stats = pool.stats()
    assert (stats.completed_operations, stats.total_operations, stats.blocks) == (2, 2, 1)
    assert device.budget.metrics().host_visible_bytes == stats.block_bytes


def test_one_block_serves_all_without_double_buffering(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any
) -> None:
    pool = device.readback_pool(double_buffered=False, max_pending_ops=4)
    handles = [pool.read(buffer, offset=i, nbytes=100) for i in range(5)]
    for i, handle in enumerate(handles):
        assert (handle.wait(20) == data[i : i + 100]).all()
    assert (pool.stats().blocks, pool.stats().block_allocations) == (1, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_pending_ops": 0},
        {"backpressure": "drop"},
        {"buffer_size": 0},
        {"buffer_size": "x"},
        {"depth": 3},
        {"lane": "no"},
    ],
)
def test_configurations_that_are_none(device: AssembledDevice, wrong: Any) -> None:
    with pytest.raises(UsageError):
        device.readback_pool(**wrong)
    assert device.budget.metrics().total_bytes == 0
