"""How the ring's clause tests stage bytes, and how they look where the bytes arrived."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.bench import Bench
from forge3d_conformance.violation import ClauseViolation
from forge3d_core.protocols import Buffer, Device, StagingRing, StagingSlice

BLOCK = 4096
"""Bytes of a block in most tests: small, and larger than any alignment an API asks for."""

EARLY = "was handed out while the device may still read it"
"""What is wrong of a block that comes back too soon."""

BACKGROUND = 0xA5
"""What device memory holds where nothing was to arrive."""

Bytes = NDArray[np.uint8]


def pattern(key: int, nbytes: int) -> Bytes:
    """Return bytes that no other key has at the same place."""
    return ((np.arange(nbytes) * 7 + key * 31 + 1) % 251).astype(np.uint8)


def take(ring: StagingRing, nbytes: int) -> StagingSlice:
    """Allocate from a ring that has room."""
    slot = ring.allocate(nbytes)
    if slot is None:
        raise ClauseViolation(f"allocate({nbytes}) returned None on a ring with room: {ring.stats()}")
    return slot


def put(ring: StagingRing, data: Bytes, target: Buffer, offset: int = 0) -> StagingSlice:
    """Allocate, write and commit."""
    slot = take(ring, data.nbytes)
    slot.view[:] = data
    slot.commit(target, offset)
    return slot


def painted(bench: Bench, device: Device, nbytes: int) -> Buffer:
    """Return a buffer full of the background."""
    buffer = device.create_buffer(nbytes)
    bench.wait(device.submit(device.command_list().fill(buffer, BACKGROUND)))
    return buffer


def landed(bench: Bench, device: Device, buffer: Buffer) -> Bytes:
    """Return what device memory holds: by the raw path, or through a pool where there is none."""
    if "peek" in bench.capabilities:
        return bench.peek(device, buffer)
    with device.readback_pool(max_pending_ops=1, buffer_size=buffer.nbytes) as pool:
        seen: NDArray[Any] = pool.read(buffer).wait(bench.patience)
        return seen
