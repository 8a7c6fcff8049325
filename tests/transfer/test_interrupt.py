"""An interrupt at any moment of a large transfer costs that call and nothing else."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.readback import pool as pools

from ..device.test_interrupt import PATIENCE, Chances
from .conftest import CHUNK

STRIDE = 3
SIZE = 4 * CHUNK + 5


def upload(device: AssembledDevice, data: Any, buffer: Any) -> None:
    with device.staging_ring(buffer_size=4096) as ring:
        ring.upload(data, buffer, timeout=PATIENCE).wait(PATIENCE)


def read(device: AssembledDevice, data: Any, buffer: Any) -> None:
    with device.readback_pool(pre_allocate=False) as pool:
        pool.read(buffer, nbytes=data.nbytes).wait(PATIENCE)


def host_array(device: AssembledDevice, data: Any, buffer: Any) -> None:
    array = device.host_array(data.nbytes)
    array[:] = data
    with device.staging_ring(buffer_size=4096) as ring, device.readback_pool(pre_allocate=False) as pool:
        ring.upload(array, buffer, timeout=PATIENCE)
        pool.read(buffer, nbytes=data.nbytes, out=array).wait(PATIENCE)


def works(device: AssembledDevice, data: Any, buffer: Any) -> None:
    """Use the device as if nothing had been."""
    upload(device, data, buffer)
    with device.readback_pool(pre_allocate=False) as pool:
        assert (pool.read(buffer, nbytes=data.nbytes).wait(PATIENCE) == data).all()
    device.wait_idle(PATIENCE)


@pytest.mark.parametrize("call", [upload, read, host_array], ids=lambda call: call.__name__)
def test_an_interrupt_at_any_moment_costs_nothing(
    open_bulk: Callable[..., AssembledDevice],
    background: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., None],
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _passed_over: None)  # pytest would keep the frames
    monkeypatch.setattr(pools, "PIECES_BYTES", 1)
    device = open_bulk()
    device.copier.crew, device.copier.threads = device.transfers.crew, 4
    data, buffer = np.random.default_rng(2).integers(0, 256, SIZE, np.uint8), device.create_buffer(SIZE)
    call(device, data, buffer)
    works(device, data, buffer)
    number = random.Random(call.__name__).randrange(STRIDE)
    while True:
        chances = Chances(number)
        chances.run(partial(call, device, data, buffer))
        what = f"{call.__name__}, interrupted at chance {number}, {chances.place}"
        data = np.roll(data, 1)
        try:
            background(works, device, data, buffer).result(PATIENCE)
        except Exception as error:
            raise AssertionError(what) from error
        assert not device.transfers.crew._jobs, what
        device.transfers._staging.reclaim(1 << 40)
        if device.budget.metrics().host_visible_bytes:
            gc.collect()
        assert device.budget.metrics().host_visible_bytes == 0, what
        if not chances.place:
            assert number > STRIDE, "there was no moment to interrupt"
            return
        number += STRIDE
