from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.errors import (
    BudgetExceeded,
    Closed,
    ForeignObject,
    OutOfDeviceMemory,
    OutOfRange,
    TooLarge,
    UsageError,
)
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.memory.entry import entry_of
from forge3d_core.protocols import Buffer, Texture


class Watched(HostDriver):
    """Notes what is freed, and what happens inside submit."""

    def __init__(self) -> None:
        super().__init__(HostMachine())
        self.freed: list[Any] = []
        self.during_submit: Callable[[], None] = lambda: None

    def free(self, native: Any) -> None:
        self.freed.append(native)

    def submit(self, lane: str, commands: Any, after: Any) -> Any:
        self.during_submit()
        return super().submit(lane, commands, after)


@pytest.fixture
def driver() -> Watched:
    return Watched()


@pytest.fixture
def watched(driver: Watched) -> Any:
    with assemble(driver) as device:
        yield device


def test_memory_satisfies_its_protocols(device: AssembledDevice) -> None:
    assert isinstance(device.create_buffer(1), Buffer)
    assert isinstance(device.create_texture(1, 1), Texture)


def test_close_is_idempotent_and_gives_back_once(watched: AssembledDevice, driver: Watched) -> None:
    with watched.create_buffer("1 KiB", label="frame") as buffer:
        native = buffer.native
        assert not buffer.closed
        assert watched.budget.metrics().device_local_bytes == 1024
    buffer.close()
    assert buffer.closed
    assert driver.freed == [native]
    assert watched.budget.metrics().device_local_bytes == 0
    with pytest.raises(Closed, match="frame"):
        _ = buffer.native


def test_memory_in_flight_is_freed_when_the_device_is_done(watched: AssembledDevice, driver: Watched) -> None:
    buffer, texture = watched.create_buffer(64), watched.create_texture(4, 4)
    with watched.native.hold("upload"), watched.staging_ring() as ring:
        ring.upload(np.ones(64, np.uint8), buffer)
        point = ring.upload(np.ones((4, 4, 4), np.uint8), texture)
        buffer.close()
        texture.close()
        assert not driver.freed
        assert watched.budget.metrics().device_local_bytes == 128
    point.wait()
    assert watched.budget.metrics().device_local_bytes == 0
    assert len(driver.freed) >= 2


def test_a_target_closed_before_advance_stays_until_the_copy_is_done(
    watched: AssembledDevice, driver: Watched
) -> None:
    buffer = watched.create_buffer(64)
    native = buffer.native
    with watched.staging_ring() as ring:
        slot = ring.allocate(64)
        assert slot is not None
        slot.view[:] = 7
        slot.commit(buffer)
        buffer.close()
        watched.budget.metrics()
        assert not driver.freed, "freed while a copy to it waits to be submitted"
        ring.advance().wait()
        assert native[:64].tolist() == [7] * 64
        assert watched.budget.metrics().device_local_bytes == 0
        assert any(freed is native for freed in driver.freed)


@pytest.mark.parametrize("end", ["close", "abandon", "drop"])
def test_a_ring_that_ends_lets_its_targets_go(watched: AssembledDevice, driver: Watched, end: str) -> None:
    buffer = watched.create_buffer(64)
    ring = watched.staging_ring()
    slot = ring.allocate(64)
    assert slot is not None
    slot.commit(buffer)
    buffer.close()
    if end != "drop":
        getattr(ring, end)()
    del ring, slot
    gc.collect()
    watched.wait_idle()
    metrics = watched.budget.metrics()
    assert (metrics.device_local_bytes, metrics.host_visible_bytes) == (0, 0)


def test_memory_closed_during_a_submission_outlives_it(
    watched: AssembledDevice, driver: Watched, background: Callable[..., Any], patience: float
) -> None:
    """Another thread closes the buffer after the list was checked and before the driver has it."""
    buffer = watched.create_buffer(64)
    commands = watched.command_list().fill(buffer, 1)
    freed_too_early: list[Any] = []

    def close_elsewhere() -> None:
        background(buffer.close).result(patience)
        freed_too_early.extend(driver.freed)

    driver.during_submit = close_elsewhere
    with watched.native.hold("compute"):
        watched.submit(commands)
        watched.budget.metrics()
        assert not freed_too_early
        assert not driver.freed
    watched.wait_idle()
    assert watched.budget.metrics().device_local_bytes == 0
    assert len(driver.freed) == 1


def test_a_dropped_owner_gives_back(watched: AssembledDevice, driver: Watched) -> None:
    buffer = watched.create_buffer(64)
    texture = watched.create_texture(4, 4)
    del buffer, texture
    gc.collect()
    assert watched.budget.metrics().total_bytes == 0
    assert len(driver.freed) == 2


def test_a_refused_allocation_leaves_no_trace(device: AssembledDevice) -> None:
    before = device.budget.metrics()
    with pytest.raises(TooLarge, match="allows"):
        device.create_buffer(device.limits.max_buffer_size + 1)
    device.native.fail_allocation()
    with pytest.raises(OutOfDeviceMemory):
        device.create_buffer(64)
    device.native.fail_allocation(2)
    with pytest.raises(OutOfDeviceMemory):
        device.staging_ring(ring_count=3)
    device.native.fail_allocation(3)
    with pytest.raises(OutOfDeviceMemory):
        device.readback_pool(max_pending_ops=4)
    with pytest.raises(BudgetExceeded):
        device.staging_ring(buffer_size="2 GiB")
    after = device.budget.metrics()
    assert (after.total_bytes, after.buffer_count) == (before.total_bytes, before.buffer_count)


def test_what_the_driver_refused_is_no_peak(device: AssembledDevice) -> None:
    ledger = device.budget
    kept = device.create_buffer(1000)
    peaks = ledger.metrics().peak_bytes
    device.native.fail_allocation()
    with pytest.raises(OutOfDeviceMemory):
        device.create_buffer(10**6)
    assert ledger.metrics().peak_bytes == peaks
    waiting = entry_of(10**6, "buffer", "host_visible")  # of another thread, say
    waiting.pending = True
    with ledger.take(waiting) as pending:
        more = device.create_buffer(500)
        assert ledger.metrics().peak_bytes == peaks + 500
        pending.grant()
        assert ledger.metrics().peak_bytes == ledger.metrics().total_bytes == peaks + 500 + 10**6
    kept.close()
    more.close()


@pytest.mark.parametrize(("width", "height"), [(0, 1), (1, 0), (-1, 1), (1 << 20, 1), (1.5, 1), ("1", 1)])
def test_sizes_that_a_texture_cannot_have(device: AssembledDevice, width: Any, height: Any) -> None:
    with pytest.raises(UsageError):
        device.create_texture(width, height)


@pytest.mark.parametrize("nbytes", [0, -1, 1.5, None, "some"])
def test_sizes_that_a_buffer_cannot_have(device: AssembledDevice, nbytes: Any) -> None:
    with pytest.raises(UsageError):
        device.create_buffer(nbytes)


@pytest.mark.parametrize(("offset", "nbytes"), [(0, 65), (1, 64), (-1, 1), (65, 0), (0, -1)])
def test_a_region_lies_inside(device: AssembledDevice, offset: int, nbytes: int) -> None:
    with pytest.raises(OutOfRange, match="do not lie inside"):
        device.create_buffer(64).region(offset, nbytes)


def test_fractions_are_refused_before_a_lane_meets_them(device: AssembledDevice) -> None:
    buffer, texture = device.create_buffer(64), device.create_texture(4, 4)
    with pytest.raises(UsageError, match="whole"):
        device.command_list().fill(buffer, 1, offset=0.5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="whole"):
        texture.box((0.5, 0), (1, 1))  # type: ignore[arg-type]


def test_adopted_memory_is_used_and_left_to_its_owner(watched: AssembledDevice, driver: Watched) -> None:
    own = np.zeros(16, np.float32)
    buffer = watched.adopt(own)
    assert buffer.nbytes == 64
    watched.submit(watched.command_list().fill(buffer, 1)).wait()
    assert own.view(np.uint8).tolist() == [1] * 64
    buffer.close()
    assert not driver.freed
    assert watched.budget.metrics().total_bytes == 0
    with pytest.raises(UsageError):
        watched.adopt(b"bytes")


def test_fresh_memory_is_zero(device: AssembledDevice) -> None:
    with device.readback_pool() as pool:
        for _ in range(3):
            with device.create_buffer(5000) as buffer:
                assert not pool.read(buffer).wait().any()
                device.submit(device.command_list().fill(buffer, 255)).wait()


def test_memory_of_another_device(open_device: Callable[..., AssembledDevice]) -> None:
    here, there = open_device(), open_device()
    with pytest.raises(ForeignObject, match="another device"):
        here.command_list().fill(there.create_buffer(4))


def test_closing_from_many_threads_frees_once(
    watched: AssembledDevice, driver: Watched, background: Callable[..., Any], patience: float
) -> None:
    buffers = [watched.create_buffer(64) for _ in range(20)]
    barrier = threading.Barrier(4)

    def close_all() -> None:
        barrier.wait(patience)
        for buffer in buffers:
            buffer.close()

    for closing in [background(close_all) for _ in range(4)]:
        closing.result(patience)
    assert watched.budget.metrics().total_bytes == 0
    assert len(driver.freed) == 20


def test_a_closed_device_keeps_nobodys_memory(driver: Watched) -> None:
    device = assemble(driver)
    buffer, open_one = device.create_buffer(64), device.create_buffer(64)
    memory = [weakref.ref(buffer.native), weakref.ref(open_one.native)]
    buffer.close()
    reservation = device.budget.reserve(8)
    with pytest.warns(ResourceWarning, match="were not released"):
        device.close()
    driver.freed.clear()
    del buffer, open_one, device
    gc.collect()
    assert reservation.released
    assert [one() for one in memory] == [None, None]
