"""A device that is lost: every waiter and every call learns of it."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import DeviceLost, KernelError
from forge3d_core.protocols import KernelSource

from .uses import uses


def test_loss_reaches_every_waiter_and_every_call(
    open_device: Callable[..., AssembledDevice], background: Callable[..., Any], until: Any, patience: float
) -> None:
    device = open_device()
    calls = uses(device)
    buffer = device.create_buffer(64)
    ring = device.staging_ring(ring_count=1, buffer_size=64)
    pool = device.readback_pool(max_pending_ops=1)
    for lane in device.lanes:
        device.native.hold(lane)
    slot = ring.allocate(64)
    assert slot is not None
    slot.commit(buffer)
    ring.advance()
    handle = pool.read(buffer)
    points = [device.submit(device.command_list(), lane=lane) for lane in device.lanes]
    told: list[Any] = []
    points[0].on_done(lambda _point, error: told.append(error))
    waiting = [background(point.wait) for point in points]
    waiting.append(background(device.lanes["compute"].timeline.point(50).wait))
    waiting.append(background(ring.reserve, 8))
    waiting.append(background(pool.read, buffer))
    waiting.append(background(handle.wait))
    until(lambda: ring.stats().buffer_stalls == 1 and pool.stats().waits == 1)
    device.native.lose("the test took it")
    for one in waiting:
        assert isinstance(one.exception(patience), DeviceLost)
    until(lambda: len(told) == 1)
    assert isinstance(told[0], DeviceLost)
    for call in calls:
        with pytest.raises(DeviceLost, match="the test took it"):
            call()
    assert "lost" in repr(device)
    assert not any(point.done for point in points)
    buffer.close()
    ring.close()
    pool.close()
    assert device.budget.metrics().host_visible_bytes > 0, "what the lost device may still use was recycled"
    assert device.budget.metrics().device_local_bytes >= 64
    device.close()
    assert device.budget.metrics().total_bytes == 0


def test_a_loss_that_a_call_meets_first_is_everybodys(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device()
    point = device.lanes["download"].timeline.point(1)
    device.native.lose("unplugged")
    with pytest.raises(DeviceLost):
        device.create_buffer(4)
    with pytest.raises(DeviceLost):
        point.wait(20)
    with pytest.raises(DeviceLost):
        device.command_list()


def test_a_failure_holds_no_slice_of_who_met_it(device: AssembledDevice) -> None:
    """If the failure kept the function, the slice that died with it would stop a ring of another lane."""

    def fail(_threads: object) -> None:
        raise ArithmeticError("bad")

    ring, target = device.staging_ring(ring_count=1, buffer_size=64), device.create_buffer(64)
    kernel = device.create_kernel(KernelSource("fail", {"host": fail}))

    def meet() -> None:
        slot = ring.allocate(8)
        assert slot is not None
        with contextlib.suppress(KernelError):
            device.submit(device.command_list().dispatch(kernel, [], threads=1)).wait(20)

    meet()
    ring.upload(np.ones(64, np.uint8), target).wait(20)


def test_a_loss_keeps_nobodys_frames(open_device: Callable[..., AssembledDevice]) -> None:
    class Local:
        pass

    device = open_device()
    device.native.lose("unplugged")

    def meet() -> weakref.ref[Local]:
        local = Local()
        with contextlib.suppress(DeviceLost):
            device.create_buffer(4)
        return weakref.ref(local)

    assert meet()() is None
    with pytest.raises(DeviceLost, match="unplugged"):
        device.create_buffer(4)
