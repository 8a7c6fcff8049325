"""Devices whose uploads all go through chunks, of the smallest size, and what is looked at after one."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.transfer.tuning import Tuning
from forge3d_core.transfer.workers import Crew

CHUNK = 64 * 1024


def bytes_of(nbytes: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(0, 256, nbytes, dtype=np.uint8)


def peek(device: AssembledDevice, buffer: DeviceBuffer) -> Any:
    device.wait_idle(20)
    return np.asarray(buffer.native)[: buffer.nbytes]


def usable(device: AssembledDevice) -> None:
    """Check that uploads work, and that nothing of the failed ones stays in the budget."""
    data = bytes_of(9 * CHUNK, 5)
    buffer = device.create_buffer(data.nbytes)
    with device.staging_ring(buffer_size=4096) as ring:
        ring.upload(data, buffer, timeout=20).wait(20)
        assert (peek(device, buffer) == data).all()
    device.transfers._staging.reclaim(1 << 40)
    gc.collect()
    assert device.budget.metrics().host_visible_bytes == 0


@pytest.fixture
def open_bulk(open_device: Callable[..., AssembledDevice]) -> Callable[..., AssembledDevice]:
    """Return a function that opens a host device with chunks of 64 KiB and three workers of its own."""

    def make(selector: str = "", *, helpers: int = 3, **options: Any) -> AssembledDevice:
        device = open_device(selector, **options)
        device.transfers.crew = Crew(threads=3, idle=0.01)
        device.transfers.tuning = Tuning(
            threshold=1, share=CHUNK // 2, smallest=CHUNK, largest=CHUNK, helpers=helpers
        )
        return device

    return make


@pytest.fixture
def bulk(open_bulk: Callable[..., AssembledDevice]) -> AssembledDevice:
    return open_bulk()
