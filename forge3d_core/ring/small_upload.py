"""Uploads that fit one slice: placed, copied and committed in one step."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forge3d_core.driver import Memory, Upload
from forge3d_core.foreign import view_of
from forge3d_core.memory.allocator import Allocation
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.ring.block import Block, Staged
from forge3d_core.ring.room import Room
from forge3d_core.ring.state import RingState

SMALL_BYTES = 256 * 1024
"""Up to here an upload is copied under the ring's lock: some 25 us, no more than handing it on would take."""


class SmallUploadHost(Protocol):
    """What a small upload needs of its ring."""

    buffer_size: int
    room: Room
    state: RingState

    def staged(self, block: Block, target: Allocation, memory: Memory) -> Staged: ...


def stage_small(ring: SmallUploadHost, array: NDArray[Any], target: DeviceBuffer, offset: int) -> bool:
    """Copy and commit what is small and was checked, if there is room at once and no thread waits for it.

    Else return False, and nothing has changed.
    """
    nbytes = array.nbytes
    if not 0 < nbytes <= min(SMALL_BYTES, ring.buffer_size) or not array.flags.c_contiguous:
        return False
    flat = array.reshape(-1).view(np.uint8)
    return ring.room.take(nbytes, partial(_copy_in, ring, flat, target, offset)) is True


def _copy_in(
    ring: SmallUploadHost,
    flat: NDArray[np.uint8],
    target: DeviceBuffer,
    offset: int,
    block: Block,
    start: int,
) -> bool:
    """Copy and commit under the ring's lock: neither a close nor another slice comes between."""
    native, nbytes = block.allocation.native, flat.nbytes
    view_of(native)[start : start + nbytes] = flat
    staged = ring.staged(block, target.allocation, target.memory)
    command = Upload(native, start, target.memory, offset, nbytes)
    ring.state.commit(block, None, command, staged, nbytes)
    return True
