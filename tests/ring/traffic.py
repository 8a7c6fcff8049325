"""What goes through a ring: bytes, a slice for them, and what the device shows of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from forge3d_core.device.device import AssembledDevice
from forge3d_core.ring.ring import Ring, Slice


def peek(device: AssembledDevice, memory: Any) -> np.ndarray[Any, Any]:
    """Return what the device memory shows, past the readback pool."""
    device.wait_idle(20)
    return np.asarray(memory.native).reshape(-1)[: memory.nbytes].copy()


def bytes_of(size: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(1, 256, size, dtype=np.uint8)


def take(ring: Ring, nbytes: int) -> Slice:
    slot = ring.allocate(nbytes)
    assert slot is not None
    return slot
