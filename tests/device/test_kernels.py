"""Kernels as what they take: given back when closed, or dropped long ago, and not before their work ends."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.device.kernels import MAX_KEPT
from forge3d_core.errors import Closed
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.protocols import Binding, ClosableKernel, KernelSource


class Releasing(HostDriver):
    """A driver that notes what it compiled and what it was given back, and may say "not yet"."""

    def __init__(self, machine: HostMachine) -> None:
        super().__init__(machine)
        self.compiled: list[str] = []
        self.released: list[Any] = []
        self.busy = False

    def compile(self, source: KernelSource) -> tuple[str, Any]:
        self.compiled.append(source.name)
        return super().compile(source)

    def release_kernel(self, native: Any) -> bool | None:
        if self.busy:
            return False
        self.released.append(native)
        return None


def source(name: str) -> KernelSource:
    def add(threads: tuple[int, int, int], data: Any) -> None:
        data += np.uint8(1)

    return KernelSource(name, {"host": add}, bindings=(Binding("data"),))


@pytest.fixture
def device() -> Iterator[AssembledDevice]:
    with assemble(Releasing(HostMachine())) as device:
        yield device


@pytest.fixture
def driver(device: AssembledDevice) -> Releasing:
    assert isinstance(device.driver, Releasing)
    return device.driver


def test_a_closed_kernel_goes_back_once(device: AssembledDevice, driver: Releasing) -> None:
    kernel = device.create_kernel(source("one"))
    assert isinstance(kernel, ClosableKernel)
    with kernel:
        assert not kernel.closed
    kernel.close()
    assert "closed" in repr(kernel)
    assert driver.released == [kernel.native]
    with pytest.raises(Closed, match=r"kernel 'one' was closed; create_kernel"):
        device.command_list().dispatch(kernel, [device.create_buffer(4)], threads=1)


def test_not_before_its_work_has_ended(device: AssembledDevice, driver: Releasing) -> None:
    kernel, buffer = device.create_kernel(source("one")), device.create_buffer(4)
    point = device.submit(device.command_list().dispatch(kernel, [buffer], threads=1))
    driver.busy = True
    kernel.close()
    point.wait(10)
    device.budget.metrics()
    assert driver.released == []
    driver.busy = False
    device.budget.metrics()
    assert driver.released == [kernel.native]
    assert np.asarray(buffer.native)[:4].tolist() == [1] * 4


def test_dropped_kernels_stay_for_a_while(device: AssembledDevice, driver: Releasing) -> None:
    sources = [source(f"k{number}") for number in range(MAX_KEPT + 5)]
    held = device.create_kernel(sources[0])
    gone = weakref.ref(device.create_kernel(sources[1]))
    for one in sources[2:]:
        device.create_kernel(one)
    gc.collect()
    device.budget.metrics()
    assert gone() is None
    assert len(driver.released) == 4  # five more than are kept, and one of them is held
    assert device.create_kernel(sources[0]) is held
    assert device.create_kernel(sources[-1]).source.name == "k68"
    assert len(driver.compiled) == len(sources)
    device.create_kernel(sources[1])
    assert len(driver.compiled) == len(sources) + 1


def test_a_list_keeps_the_kernel_that_it_runs(device: AssembledDevice, driver: Releasing) -> None:
    buffer = device.create_buffer(4)
    commands = device.command_list().dispatch(device.create_kernel(source("first")), [buffer], threads=1)
    for number in range(MAX_KEPT):  # the last that are asked for, and no more
        device.create_kernel(source(f"k{number}"))
    gc.collect()
    device.budget.metrics()
    assert driver.released == []
    device.submit(commands).wait(10)
    assert np.asarray(buffer.native)[:4].tolist() == [1] * 4


def test_a_device_that_closed_has_nothing_to_give_back(driver: Releasing, device: AssembledDevice) -> None:
    kernel = device.create_kernel(source("one"))
    device.close()
    kernel.close()
    assert kernel.closed
    assert driver.released == []
