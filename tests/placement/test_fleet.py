from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import (
    BudgetExceeded,
    BudgetExhausted,
    Closed,
    DeviceLost,
    KernelError,
    UsageError,
)
from forge3d_core.placement import Fleet, load_of
from forge3d_core.protocols import Device

PATIENCE = 20.0
Open = Callable[..., AssembledDevice]


def doubled(device: Device, number: int) -> int:
    """Fill a buffer with a number on the device, and read the sum of twice as many bytes."""
    with device.create_buffer(2 * 64) as buffer, device.readback_pool(buffer_size=4096) as pool:
        device.submit(device.command_list().fill(buffer, number))
        return int(pool.read(buffer).wait(PATIENCE).sum(dtype=np.int64)) // 64


@pytest.fixture
def fleet(open_device: Open) -> Fleet:
    return Fleet([open_device(budget=f"{n} MiB") for n in (8, 4, 2)])


def test_a_batch_is_spread_and_gathered_in_order(fleet: Fleet) -> None:
    meeting = threading.Barrier(3)  # so each device has one of the first three
    used: list[Device] = []

    def work(device: Device, number: int) -> int:
        if number < 3:
            meeting.wait(PATIENCE)
        used.append(device)
        return doubled(device, number)

    assert fleet.map(work, range(40)) == [2 * n for n in range(40)]
    assert set(used) == set(fleet.devices)


def test_devices_of_several_backends(any_device: Device, open_device: Open) -> None:
    assert Fleet([any_device, open_device("?seed=1")]).map(doubled, range(10)) == [2 * n for n in range(10)]


def test_the_one_that_is_done_first_takes_most(open_device: Open) -> None:
    slow, fast = open_device(), open_device()
    others = threading.Event()
    count: dict[Device, int] = {slow: 0, fast: 0}

    def work(device: Device, number: int) -> int:
        count[device] += 1
        if device is slow:
            assert others.wait(PATIENCE)
        elif count[fast] == 18:
            others.set()
        return number

    gate = threading.Barrier(2)

    seen: set[Device] = set()

    def once(device: Device, number: int) -> int:
        if device not in seen:
            seen.add(device)
            gate.wait(PATIENCE)
        return work(device, number)

    assert Fleet([slow, fast]).map(once, range(20)) == list(range(20))
    assert count[fast] > count[slow]


def test_an_error_names_its_item_and_no_more_begin(fleet: Fleet) -> None:
    begun: list[int] = []

    def work(device: Device, number: int) -> int:
        begun.append(number)
        if number == 3:
            raise KernelError("three")
        return number

    with pytest.raises(KernelError) as caught:
        fleet.map(work, range(1000))
    assert caught.value.item == 3  # type: ignore[attr-defined]
    assert "item 3" in "".join(caught.value.__notes__)
    assert len(begun) < 1000


def test_errors_may_stand_in_their_places(fleet: Fleet) -> None:
    def work(device: Device, number: int) -> int:
        if number % 3 == 1:
            raise KernelError(str(number))
        return number

    results: list[Any] = fleet.map(work, range(10), on_error="return")
    assert [r if isinstance(r, int) else r.item for r in results] == list(range(10))
    assert [isinstance(r, KernelError) for r in results] == [n % 3 == 1 for n in range(10)]


def test_the_items_of_a_lost_device_go_to_others(fleet: Fleet) -> None:
    lost = fleet.devices[1]
    gate = threading.Barrier(3)
    seen: set[Device] = set()

    def work(device: Device, number: int) -> int:
        if device not in seen:
            seen.add(device)
            gate.wait(PATIENCE)
            if device is lost:
                raise DeviceLost("gone")
        return doubled(device, number)

    assert fleet.map(work, range(30)) == [2 * n for n in range(30)]
    assert lost not in fleet.usable
    assert fleet.map(doubled, range(5)) == [2 * n for n in range(5)]


def test_the_items_of_a_closed_device_go_to_others(fleet: Fleet) -> None:
    gate = threading.Barrier(3)
    seen: set[Device] = set()

    def work(device: Device, number: int) -> int:
        if device not in seen:
            seen.add(device)
            gate.wait(PATIENCE)
            if device is fleet.devices[0]:
                device.close()
        return doubled(device, number)

    assert fleet.map(work, range(30)) == [2 * n for n in range(30)]
    assert fleet.usable == fleet.devices[1:]


def test_where_no_device_is_left(open_device: Open) -> None:
    fleet = Fleet([open_device(), open_device()])

    def work(device: Device, number: int) -> int:
        if number < 3:
            return number
        raise DeviceLost("gone")

    results: list[Any] = fleet.map(work, range(6), on_error="return")
    assert results[:3] == [0, 1, 2]
    assert all(isinstance(result, DeviceLost) for result in results[3:])
    assert [result.item for result in results[3:]] == [3, 4, 5]
    with pytest.raises(DeviceLost, match="2 devices"):
        fleet.map(work, range(6))
    with pytest.raises(DeviceLost):
        fleet.least_loaded()


def test_an_interrupt_ends_it(fleet: Fleet) -> None:
    done: list[int] = []

    def work(device: Device, number: int) -> int:
        if number == 5:
            raise KeyboardInterrupt
        done.append(number)
        return number

    with pytest.raises(KeyboardInterrupt):
        fleet.map(work, range(1000))
    assert len(done) < 999
    assert all(load.running == 0 for load in fleet.loads())
    assert fleet.map(work, range(3)) == [0, 1, 2]


def test_the_closed_of_something_else_is_the_items_error(fleet: Fleet) -> None:
    def work(device: Device, number: int) -> int:
        buffer = device.create_buffer(64)
        buffer.close()
        device.submit(device.command_list().fill(buffer))
        return number

    with pytest.raises(Closed):
        fleet.map(work, range(3))
    assert fleet.usable == fleet.devices


def test_the_least_loaded_has_least_to_do(fleet: Fleet) -> None:
    first, second, third = fleet.devices
    assert fleet.least_loaded() is first
    with first.budget.reserve("1 MiB"):
        assert fleet.least_loaded() is second
        assert fleet.least_loaded("3 MiB") is second
        assert fleet.least_loaded("5 MiB") is first
    hold = first.native.hold("compute")
    with first.create_buffer(64) as buffer:
        first.submit(first.command_list().fill(buffer))
        assert load_of(first).outstanding == 1
        assert fleet.least_loaded() is second
        hold.release()
    with pytest.raises(BudgetExceeded, match="8 MiB"):
        fleet.least_loaded("9 MiB")
    with first.budget.reserve("6 MiB"), pytest.raises(BudgetExhausted):
        fleet.least_loaded("5 MiB")
    third.close()
    assert fleet.usable == (first, second)


def test_a_device_that_works_on_a_batch_is_loaded(fleet: Fleet) -> None:
    def work(device: Device, number: int) -> tuple[Device, Device]:
        return device, fleet.least_loaded()

    ((working, chosen),) = fleet.map(work, [1])
    assert chosen is not working


def test_what_is_wrong_is_refused(fleet: Fleet) -> None:
    for wrong in (
        lambda: Fleet([]),
        lambda: Fleet([fleet.devices[0]] * 2),
        lambda: fleet.map(doubled, [1], on_error="ignore"),  # type: ignore[arg-type]
        lambda: fleet.map(None, [1]),  # type: ignore[arg-type,misc]
    ):
        with pytest.raises(UsageError):
            wrong()
    assert fleet.map(doubled, []) == []
