"""The memory of large results: used again where nothing reaches it any more, and never before."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.readback.pool import Pool
from forge3d_core.readback.results import KEPT_BYTES, REUSED_BYTES

from .source import poke

SIZE = 2 * REUSED_BYTES


@pytest.fixture
def pool(device: AssembledDevice) -> Pool:
    return device.readback_pool(buffer_size=SIZE)


def read(device: AssembledDevice, pool: Pool, value: int) -> np.ndarray[Any, Any]:
    buffer = device.create_buffer(SIZE)
    poke(buffer, np.full(SIZE, value, np.uint8))
    array = pool.read(buffer, dtype="f4", shape=(16, -(-SIZE // 64))).wait(20)
    assert (array.view(np.uint8) == value).all()
    return array


def test_memory_that_is_let_go_of_is_used_again(device: AssembledDevice, pool: Pool) -> None:
    addresses = {read(device, pool, value).ctypes.data for value in range(1, 9)}
    assert len(addresses) == 1
    assert pool.results.reused == 7


@pytest.mark.parametrize(
    "alias",
    [
        lambda array: array[3:5],
        lambda array: array.view(np.uint8).reshape(-1)[1:],
        memoryview,
        lambda array: array.flat,
        lambda array: (ctypes.c_char * SIZE).from_buffer(array),
        lambda array: array.__dlpack__(),
        np.nditer,
    ],
    ids=["slice", "view", "memoryview", "flat", "ctypes", "dlpack", "nditer"],
)
def test_what_reaches_the_memory_keeps_it(
    device: AssembledDevice, pool: Pool, alias: Callable[[Any], Any]
) -> None:
    first = read(device, pool, 1)
    address, kept = first.ctypes.data, alias(first)
    del first
    for value in range(2, 6):
        assert read(device, pool, value).ctypes.data != address
    assert bytes((ctypes.c_char * SIZE).from_address(address)) == b"\1" * SIZE
    del kept
    assert address in {array.ctypes.data for array in [read(device, pool, 7), read(device, pool, 8)]}


def test_a_handle_keeps_its_result(device: AssembledDevice, pool: Pool) -> None:
    buffer = device.create_buffer(SIZE)
    handle = pool.read(buffer)
    handle.wait(20)
    for value in range(3):
        read(device, pool, value)
    assert not handle.wait(20).any()


def test_what_is_kept_is_bounded(device: AssembledDevice, pool: Pool) -> None:
    held = [read(device, pool, 1) for _ in range(KEPT_BYTES // SIZE + 20)]
    del held
    assert 0 < pool.results.nbytes <= KEPT_BYTES
    pool.close()
    assert pool.results.nbytes == 0


def test_results_of_another_size_take_turns(device: AssembledDevice, pool: Pool) -> None:
    small, large = device.create_buffer(REUSED_BYTES), device.create_buffer(3 * REUSED_BYTES)
    for _ in range(4):
        for buffer in (small, large):
            assert pool.read(buffer).wait(20).nbytes == buffer.nbytes
    assert pool.results.reused == 6
    assert pool.results.nbytes == small.nbytes + large.nbytes
