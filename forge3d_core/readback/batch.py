"""Several reads in one: what is asked for, and where each lies in the block that they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from forge3d_core.arguments import keywords, sequence, shown
from forge3d_core.errors import WrongType
from forge3d_core.memory.resources import DeviceMemory
from forge3d_core.protocols import Limits, ReadRegion, ReadRequest, WantedRead
from forge3d_core.readback.handle import Handle

PART_ALIGNMENT = 64
"""Where each part of a block begins, so that a lease shows items of any dtype where they are aligned."""


def requests(reads: Iterable[WantedRead]) -> list[ReadRequest]:
    """Return what is to be read. Raises :class:`WrongType` for what is no source, pair or request."""
    return [_request(read) for read in sequence("what read_many takes", reads)]


def _request(read: Any) -> ReadRequest:
    if isinstance(read, ReadRequest):
        return read
    if isinstance(read, DeviceMemory):
        return ReadRequest(read)  # type: ignore[arg-type]
    if isinstance(read, (tuple, list)) and len(read) == 2 and isinstance(read[1], Mapping):
        source, region = read
        keywords("a read of read_many", region, ReadRegion.__annotations__)
        return ReadRequest(source, **region)
    raise WrongType(
        f"an item of read_many is a buffer or texture, a pair (source, {{'offset': ...}}) or a ReadRequest, "
        f"not {shown(read)}"
    )


def pack(handles: Iterable[Handle], limits: Limits) -> tuple[list[Handle], int]:
    """Give each read that is not empty its place in one block; return those, and the bytes of the block."""
    filled = [handle for handle in handles if handle.region.nbytes]
    end = 0
    for handle in filled:
        rows = handle.region.row_pitch is not None
        step = max(PART_ALIGNMENT, limits.copy_alignment, limits.staging_alignment if rows else 1)
        handle.place = -(-end // step) * step
        end = handle.place + handle.region.block_bytes
    return filled, end
