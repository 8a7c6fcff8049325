"""A buffer of known bytes, and a pool of four blocks to read it through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.readback.pool import Pool

from .source import SIZE, poke


@pytest.fixture
def data() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(3).integers(0, 256, SIZE, dtype=np.uint8)


@pytest.fixture
def buffer(device: AssembledDevice, data: np.ndarray[Any, Any]) -> DeviceBuffer:
    made = device.create_buffer(SIZE)
    poke(made, data)
    return made


@pytest.fixture
def pool(device: AssembledDevice) -> Pool:
    return device.readback_pool(max_pending_ops=4, buffer_size="4 KiB")
