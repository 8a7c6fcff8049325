"""Kernels for pipelines on the host device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forge3d_core.device.device import AssembledDevice
from forge3d_core.protocols import Binding, Kernel, KernelSource, Param


def _double(_threads: tuple[int, int, int], source: NDArray[Any], target: NDArray[Any]) -> None:
    target[:] = source * np.uint32(2)


def _add(_threads: tuple[int, int, int], data: NDArray[Any], step: int) -> None:
    data += np.uint32(step)


def _sum(_threads: tuple[int, int, int], source: NDArray[Any], total: NDArray[Any]) -> None:
    total += source


def _break(_threads: tuple[int, int, int], _data: NDArray[Any]) -> None:
    raise ArithmeticError("broken on purpose")


def _source(function: Any, *access: str, params: tuple[Param, ...] = ()) -> KernelSource:
    bindings = tuple(Binding(f"b{place}", kind, dtype="u4") for place, kind in enumerate(access))
    return KernelSource(function.__name__, {"host": function}, bindings, params)


@pytest.fixture
def double(device: AssembledDevice) -> Kernel:
    return device.create_kernel(_source(_double, "read", "write"))


@pytest.fixture
def add(device: AssembledDevice) -> Kernel:
    return device.create_kernel(_source(_add, "readwrite", params=(Param("step", "u4"),)))


@pytest.fixture
def accumulate(device: AssembledDevice) -> Kernel:
    return device.create_kernel(_source(_sum, "read", "readwrite"))


@pytest.fixture
def broken(device: AssembledDevice) -> Kernel:
    return device.create_kernel(_source(_break, "readwrite"))
