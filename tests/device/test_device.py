"""The assembled device: its protocols, its kernels, what it adopts and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.errors import KernelError, OutOfDeviceMemory, TooLarge
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.protocols import Device, KernelSource, Lane


def contents(buffer: Any) -> Any:
    return np.asarray(buffer.native).tolist()


def test_a_device_satisfies_its_protocols(device: AssembledDevice) -> None:
    assert isinstance(device, Device)
    assert all(isinstance(lane, Lane) for lane in device.lanes.values())
    assert tuple(device.lanes) == ("upload", "compute", "download")
    with pytest.raises(TypeError):
        device.lanes["own"] = device.lanes["upload"]  # type: ignore[index]


def test_a_kernel_that_fails_says_where_and_ends_its_lane_alone(device: AssembledDevice) -> None:
    def divide(_threads: object) -> None:
        1 // 0  # noqa: B018

    kernel = device.create_kernel(KernelSource("divide", {"host": divide}))
    point = device.submit(device.command_list().dispatch(kernel, [], threads=1))
    with pytest.raises(KernelError, match=r"'divide'.*ZeroDivisionError.*test_device.py"):
        point.wait(20)
    assert not point.done
    with pytest.raises(KernelError):
        device.submit(device.command_list())
    with pytest.raises(KernelError):
        device.wait_idle(20)
    buffer = device.create_buffer(4)
    with device.staging_ring() as ring, device.readback_pool() as pool:
        ring.upload(np.full(4, 9, np.uint8), buffer)
        assert pool.read(buffer).wait(20).tolist() == [9] * 4


@pytest.mark.parametrize("sources", [{}, {"wgsl": "fn main() {}"}, {"host": "not callable"}])
def test_a_kernel_that_this_device_does_not_speak(device: AssembledDevice, sources: Any) -> None:
    with pytest.raises(KernelError, match="host"):
        device.create_kernel(KernelSource("other", sources))


def test_an_adopted_machine_stays_open() -> None:
    machine = HostMachine()
    with (
        assemble(HostDriver(machine, owned=False)) as first,
        assemble(HostDriver(machine, owned=False)) as second,
    ):
        one, other = first.create_buffer(4), second.create_buffer(4)
        first.submit(first.command_list().fill(one, 1)).wait(20)
        first.close()
        second.submit(second.command_list().fill(other, 2)).wait(20)
        assert contents(other) == [2] * 4
    machine.close()


def test_what_the_device_refuses_is_three_errors(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device("?oom_at=1", budget="1 KiB")
    with pytest.raises(OutOfDeviceMemory):
        device.create_buffer(4)
    with pytest.raises(TooLarge):
        device.create_buffer(1 << 60)
    device.create_buffer("1 MiB").close()  # device-local memory is counted, not limited
    assert device.budget.metrics().peak_bytes == 1 << 20
