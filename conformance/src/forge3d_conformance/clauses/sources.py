"""Device memory with known bytes, for clauses that read it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.bench import Bench
from forge3d_conformance.violation import ClauseViolation
from forge3d_core.errors import Busy, FenceTimeout, ForgeError
from forge3d_core.protocols import Buffer, Device, FencePoint, ReadbackHandle, ReadbackPool


def stamp(device: Device, buffer: Buffer, value: int, lane: str = "compute") -> FencePoint:
    """Set every byte of ``buffer``; returns at once."""
    return device.submit(device.command_list().fill(buffer, value), lane=lane)


def stamped(bench: Bench, device: Device, values: Sequence[int], nbytes: int = 1000) -> list[Buffer]:
    """Return a buffer for each of ``values``, filled with it; the work is complete."""
    buffers = [device.create_buffer(nbytes) for _ in values]
    for buffer, value in zip(buffers, values, strict=True):
        point = stamp(device, buffer, value)
    bench.wait(point)
    return buffers


def all_of(value: int, nbytes: int = 1000) -> NDArray[np.uint8]:
    """Return what a read of a stamped buffer should give."""
    return np.full(nbytes, value, np.uint8)


def take(bench: Bench, handle: ReadbackHandle, what: str = "a read") -> NDArray[Any]:
    """Return the bytes of a read that must come; a violation when they do not."""
    try:
        return handle.wait(bench.patience)
    except FenceTimeout as error:
        raise ClauseViolation(f"{what} did not land within {bench.patience:g} s: {error}") from error


def served(bench: Bench, pool: ReadbackPool, buffer: Buffer, what: str) -> ReadbackHandle:
    """Start a read that must find a block; a violation when the pool refuses it."""
    try:
        return pool.read(buffer)
    except (Busy, FenceTimeout) as error:
        raise ClauseViolation(f"{what}: {type(error).__name__} ({error})") from error


def ended(handle: ReadbackHandle, seconds: float) -> str:
    """Wait for a read and name what came of it."""
    try:
        handle.wait(seconds)
    except ForgeError as error:
        return type(error).__name__
    return "bytes"


def ended_under_asyncio(handle: ReadbackHandle, seconds: float) -> str:
    """Await a read on a loop of its own and name what came of it."""

    async def taken() -> object:
        return await handle

    try:
        asyncio.run(asyncio.wait_for(taken(), seconds))
    except (ForgeError, TimeoutError) as error:
        return type(error).__name__
    return "bytes"
