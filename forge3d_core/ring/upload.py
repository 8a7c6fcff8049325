"""Uploads of any size through a ring: staged a block at a time while the device copies the last."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forge3d_core.arguments import integer
from forge3d_core.deadline import Deadline
from forge3d_core.errors import TooLarge, UsageError
from forge3d_core.formats import check_texels
from forge3d_core.memory.copying import HostCopier
from forge3d_core.memory.resources import DeviceBuffer, DeviceTexture
from forge3d_core.protocols import FencePoint, Limits
from forge3d_core.ring.slice import Slice
from forge3d_core.units import align_up, format_bytes


class UploadHost(Protocol):
    """What an upload needs of its ring."""

    limits: Limits
    buffer_size: int

    def check_target(self, target: DeviceBuffer | DeviceTexture) -> None: ...

    def reserve_until(self, nbytes: int, deadline: Deadline) -> Slice: ...

    def submit(self, deadline: Deadline) -> FencePoint: ...


def upload_bytes(
    ring: UploadHost,
    copier: HostCopier,
    array: NDArray[Any],
    target: DeviceBuffer,
    offset: int,
    deadline: Deadline,
) -> None:
    """Stage all bytes of ``array`` for ``target``; the last block is left for the caller to submit."""
    ring.check_target(target)
    offset = integer("offset", offset)
    target.region(offset, array.nbytes)
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for start in range(0, flat.nbytes, ring.buffer_size):
        piece = flat[start : start + ring.buffer_size]
        slot = ring.reserve_until(piece.nbytes, deadline)
        try:
            slot.fill(partial(copier.copy, source=piece))
            slot.commit(target, offset + start)
        except BaseException:  # an error that the caller keeps would keep the slice, and it the ring
            slot.revoke()
            raise
        if piece.nbytes == ring.buffer_size:
            ring.submit(deadline)  # let the device start while the host copies on


def upload_rows(
    ring: UploadHost,
    copier: HostCopier,
    array: NDArray[Any],
    target: DeviceTexture,
    offset: int,
    origin: tuple[int, int],
    deadline: Deadline,
) -> None:
    """Stage the rows of ``array``, each at the pitch that the device wants, for ``target`` at ``origin``."""
    ring.check_target(target)
    if integer("offset", offset):
        raise UsageError("a texture takes origin=(x, y) in texels, not a byte offset")
    check_texels(array, target.format)
    height, width = array.shape[:2]
    origin, _ = target.rectangle(origin, (width, height))
    if not array.size:
        return
    row = width * target.format.block_bytes
    rows = np.ascontiguousarray(array).view(np.uint8).reshape(height, row)
    pitch = align_up(row, ring.limits.row_pitch_alignment)
    at_once = 1 + (ring.buffer_size - row) // pitch
    if at_once < 1:
        raise TooLarge(
            f"one row of {row} bytes is more than the ring's buffer_size of "
            f"{format_bytes(ring.buffer_size)}; make a ring with larger blocks"
        )
    for y in range(0, height, at_once):
        part = rows[y : y + at_once]
        slot = ring.reserve_until((len(part) - 1) * pitch + row, deadline)
        try:
            slot.fill(partial(_copy_rows, copier, part, pitch))
            slot.commit_rows(
                target, origin=(origin[0], origin[1] + y), size=(width, len(part)), row_pitch=pitch
            )
        except BaseException:
            slot.revoke()
            raise


def _copy_rows(copier: HostCopier, rows: NDArray[np.uint8], pitch: int, memory: NDArray[np.uint8]) -> None:
    copier.copy(np.ndarray(rows.shape, np.uint8, memory.data, 0, (pitch, 1)), rows)
