"""Who waits at a ring, what for, and what must not be waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Closed, FenceTimeout, SliceOutstanding
from forge3d_core.ring.ring import Ring

from .traffic import bytes_of, take


def test_own_slices_are_not_waited_for(device: AssembledDevice, ring: Ring) -> None:
    buffer = device.create_buffer(4096)
    slot = take(ring, 1000)
    with pytest.raises(SliceOutstanding):
        ring.advance()
    with pytest.raises(SliceOutstanding):
        ring.upload(np.ones(8, np.uint8), buffer)
    take(ring, 1000).commit(buffer)
    take(ring, 1000).commit(buffer)
    with pytest.raises(SliceOutstanding):
        ring.reserve(1000)
    slot.release()
    ring.reserve(1000, 20).release()


def test_reserve_waits_for_the_device_and_times_out(
    device: AssembledDevice, background: Callable[..., Any], until: Callable[..., None], patience: float
) -> None:
    buffer = device.create_buffer(1024)
    ring = device.staging_ring(ring_count=1, buffer_size=1024)
    hold = device.native.hold("upload")
    take(ring, 1024).commit(buffer)
    with pytest.raises(FenceTimeout, match=r"'upload'.*no room for 8 B.*1 block"):
        ring.reserve(8, timeout=0)
    waiting = background(ring.reserve, 8, patience)
    until(lambda: ring.stats().buffer_stalls == 2)
    assert not waiting.done()
    hold.release()
    assert waiting.result(patience).ring_index == 0


def test_reserve_is_first_come_first_served(
    device: AssembledDevice, background: Callable[..., Any], until: Callable[..., None], patience: float
) -> None:
    buffer = device.create_buffer(1024)
    ring = device.staging_ring(ring_count=1, buffer_size=1024)
    hold = device.native.hold("upload")
    take(ring, 1024).commit(buffer)
    ring.advance()
    order: list[int] = []

    def reserve(number: int, nbytes: int) -> None:
        slot = ring.reserve(nbytes, patience)
        order.append(number)
        slot.commit(buffer)
        del slot

    waiting = []
    for number, nbytes in enumerate((1000, 8, 1000, 8)):  # the small ones would fit earlier
        waiting.append(background(reserve, number, nbytes))
        until(lambda number=number: ring.stats().buffer_stalls == number + 1)
    with pytest.raises(FenceTimeout):
        ring.reserve(8, timeout=0)
    hold.release()
    for one in waiting:
        one.result(patience)
    assert order == [0, 1, 2, 3]


def test_advance_waits_for_slices_of_other_threads(
    device: AssembledDevice, ring: Ring, background: Callable[..., Any], patience: float
) -> None:
    buffer = device.create_buffer(64)
    slot = background(take, ring, 64).result(patience)
    with pytest.raises(FenceTimeout, match="not committed"):
        ring.advance(timeout=0)
    advancing = background(ring.advance, patience)
    slot.view[:] = 9
    slot.commit(buffer)
    point = advancing.result(patience)
    point.wait(patience)
    assert np.asarray(buffer.native).tolist() == [9] * 64


def test_close_wakes_who_reserves(
    device: AssembledDevice, background: Callable[..., Any], until: Callable[..., None], patience: float
) -> None:
    buffer = device.create_buffer(1024)
    ring = device.staging_ring(ring_count=1, buffer_size=1024)
    with device.native.hold("upload"):
        take(ring, 1024).commit(buffer)
        waiting = background(ring.reserve, 8)
        until(lambda: ring.stats().buffer_stalls == 1)
        ring.close()
        assert isinstance(waiting.exception(patience), Closed)


def test_a_stuck_lane_stops_no_ring_on_another(device: AssembledDevice) -> None:
    buffer, data = device.create_buffer(4096), bytes_of(4096)
    stuck = device.staging_ring(ring_count=1, buffer_size=64)
    free = device.staging_ring(ring_count=1, buffer_size=64, lane="compute")
    other = device.create_buffer(64)
    with device.native.hold("upload"):
        take(stuck, 64).commit(other)
        assert not stuck.advance().done
        free.upload(data, buffer).wait(20)
        assert (np.asarray(buffer.native) == data).all()
