"""Leases: a block shown without a copy, and kept until its last array is gone."""

from __future__ import annotations

import gc
from collections.abc import Callable
from threading import Event
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import BudgetExhausted, Busy, StateError
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.memory.views import Loan
from forge3d_core.readback import handle as readback_handle
from forge3d_core.readback.pool import Pool
from forge3d_core.readback.region import Region

from .small import small_pool
from .source import SIZE, poke


def test_a_lease_shows_the_block_and_keeps_it(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any
) -> None:
    pool = small_pool(device, backpressure="raise")
    lease = pool.read(buffer, dtype="u2").lease(20)
    array = lease.array
    assert (array == data.view("u2")).all()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    derived = array[10:20]
    poke(buffer, np.zeros(SIZE, np.uint8))
    with pytest.raises(Busy):
        pool.read(buffer)
    lease.release()
    lease.release()
    assert array.size == 0
    with pytest.raises(StateError, match="released"):
        _ = lease.array
    before = pool.stats().block_allocations
    assert not pool.read(buffer).wait(20).any()  # into other memory
    assert (derived == data.view("u2")[10:20]).all()
    del derived, array
    for _ in range(4):
        assert not pool.read(buffer).wait(20).any()
    assert pool.stats().block_allocations == before + 1


@pytest.mark.parametrize("depth", [1, 2])
def test_a_variable_that_is_bound_anew_costs_one_block(
    device: AssembledDevice, buffer: DeviceBuffer, depth: int
) -> None:
    """In the steady state nothing is allocated: the block that was held is idle again a read later."""
    pool = device.readback_pool(max_pending_ops=depth, buffer_size=SIZE)
    for value in range(8):
        poke(buffer, np.full(SIZE, value, np.uint8))
        with pool.read(buffer).lease(20) as array:
            assert (array == value).all()
        assert array.size == 0
    assert pool.stats().block_allocations == 2
    del array


def test_aliases_of_released_leases_keep_their_bytes(device: AssembledDevice, buffer: DeviceBuffer) -> None:
    pool = small_pool(device)
    kept: list[memoryview] = []
    for value in range(5):
        poke(buffer, np.full(SIZE, value, np.uint8))
        with pool.read(buffer).lease(20) as array:
            kept.append(memoryview(array))
        del array
        assert [set(alias) for alias in kept] == [{older} for older in range(value + 1)]
    assert pool.stats().blocks == 5
    kept.clear()
    for _ in range(3):
        assert (pool.read(buffer).wait(20) == 4).all()
    assert pool.stats().blocks == 1


def test_a_pool_whose_arrays_are_kept_says_so_where_the_budget_has_no_room(
    open_device: Callable[..., AssembledDevice],
) -> None:
    device = open_device(budget=3 * 4096)
    buffer, pool = device.create_buffer(SIZE), small_pool(device)
    with pool.read(buffer).lease(20) as array:
        pass
    with pytest.raises(BudgetExhausted, match=r"1 lease\(s\).*still referred to.*del"):
        pool.read(buffer)
    del array
    assert not pool.read(buffer).wait(20).any()


def test_a_dropped_lease_gives_back_with_its_last_array(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any
) -> None:
    pool = small_pool(device, backpressure="raise")
    array = pool.read(buffer).lease(20).array
    gc.collect()
    with pytest.raises(Busy):
        pool.read(buffer)
    assert (array == data).all()
    del array
    pool.read(buffer).wait(20)


def test_one_lease_at_a_time_and_none_after(pool: Pool, buffer: DeviceBuffer) -> None:
    handle = pool.read(buffer)
    with handle.lease(20), pytest.raises(StateError, match="leased already"):
        handle.lease()
    for ask in (handle.wait, handle.lease, handle.try_get):
        with pytest.raises(StateError, match="released"):
            ask()


def test_an_owned_copy_taken_during_the_lease_stays(pool: Pool, buffer: DeviceBuffer, data: Any) -> None:
    handle = pool.read(buffer)
    with handle.lease(20):
        owned = handle.wait(0)
    assert (owned == data).all()
    assert handle.wait(0) is owned


def test_a_lease_after_wait_shows_the_owned_array(pool: Pool, buffer: DeviceBuffer) -> None:
    handle = pool.read(buffer)
    owned = handle.wait(20)
    lease = handle.lease()
    assert np.shares_memory(lease.array, owned)
    assert not lease.array.flags.writeable
    assert owned.flags.writeable
    lease.release()
    with pytest.raises(StateError):
        _ = lease.array
    assert pool.stats().pending_operations == 0


@pytest.mark.parametrize("step", ["loan", "array"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_lease_that_cannot_be_made_leaves_the_read_as_it_was(
    device: AssembledDevice,
    buffer: DeviceBuffer,
    data: Any,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: type[BaseException],
) -> None:
    def fail(*_call: Any, **_named: Any) -> None:
        raise error

    pool = small_pool(device, backpressure="raise")
    for retried in (True, False):
        handle = pool.read(buffer)
        with monkeypatch.context() as failing:
            if step == "loan":
                failing.setattr(readback_handle, "Loan", fail)
            else:
                failing.setattr(Region, "lend", fail)
            with pytest.raises(error):
                handle.lease(20)
        gc.collect()
        assert pool.stats().pending_operations == 1
        assert pool.stats().cancelled_operations == 0
        if retried:
            with handle.lease(0) as lent:
                assert (lent == data).all()
                del lent
    del handle
    assert (pool.read(buffer).wait(20) == data).all(), "the block of a dropped handle is lost"


def test_a_lease_that_is_being_made_ends_with_the_device(
    device: AssembledDevice,
    buffer: DeviceBuffer,
    background: Callable[..., Any],
    until: Any,
    patience: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    making, make = Event(), Event()
    lend = Region.lend

    def linger(region: Region, loan: Loan) -> Any:
        making.set()
        make.wait(patience)
        return lend(region, loan)

    monkeypatch.setattr(Region, "lend", linger)
    pool = device.readback_pool()
    leasing = background(pool.read(buffer).lease, patience)
    assert making.wait(patience)
    closing = background(device.close)
    until(lambda: pool.closed)
    make.set()
    lease = leasing.result(patience)
    closing.result(patience)
    with pytest.raises(StateError, match="released"):
        _ = lease.array


def test_leases_outlive_the_pool_and_end_with_the_device(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any
) -> None:
    pool = device.readback_pool()
    lease = pool.read(buffer).lease(20)
    pool.close()
    assert (lease.array == data).all()
    assert device.budget.metrics().host_visible_bytes > 0
    array = lease.array
    device.close()
    assert array.size == 0, "an array over memory that the driver took along"
    with pytest.raises(StateError):
        _ = lease.array


def test_the_last_lease_of_a_closed_pool_gives_its_block_back(
    device: AssembledDevice, buffer: DeviceBuffer
) -> None:
    pool = device.readback_pool()
    lease = pool.read(buffer).lease(20)
    pool.close()
    lease.release()
    assert device.budget.metrics().host_visible_bytes == 0
