"""How the bytes of a read come out of its block: the one place that copies them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forge3d_core.foreign import view_of
from forge3d_core.lifetime.hold import Hold, note
from forge3d_core.protocols import FencePoint
from forge3d_core.readback.destination import Destination
from forge3d_core.readback.region import Region
from forge3d_core.readback.results import REUSED_BYTES, Results
from forge3d_core.readback.state import Slot
from forge3d_core.transfer.copying import PARALLEL_BYTES, HostCopier
from forge3d_core.transfer.landing import BulkLanding, Piece
from forge3d_core.transfer.moving import MOVER
from forge3d_core.transfer.transfers import Transfers


def land(
    region: Region, view: NDArray[np.uint8], place: int, results: Results, copier: HostCopier
) -> NDArray[Any]:
    """Return the bytes of ``region`` as the caller's array, or as a new one.

    ``view`` is the whole block, in which the read's part begins at ``place``. The guard of the device is
    passed: the block does not go meanwhile.
    """
    nbytes = region.nbytes
    if nbytes < REUSED_BYTES and region.row_pitch is None and region.out is None and region.direct is None:
        start = place + region.lead  # what most reads are, and small: in few calls
        result = np.empty(region.shape, region.dtype)
        result.reshape(-1).view(np.uint8)[:] = view[start : start + nbytes]
        return result
    result = result_of(region, results)
    if region.direct is not None:
        return result
    if region.strided:
        whole = nbytes if region.row_pitch is None else region.rows * region.size[2]
        for part, bytes_ in Destination.of(region, result).pairs(view, place + region.lead, 0, whole):
            copier.copy(part, bytes_)
        return result
    target, source = ways(region, result, view, place)
    if nbytes < 2 * PARALLEL_BYTES:
        MOVER.copy(target, source)
    else:
        copier.copy(target, source)
    return result


class PiecedRead(Protocol):
    """A read whose bytes come in pieces."""

    region: Region
    place: int
    pieces: Sequence[Piece]
    slot: Slot | None


class LandingHost(Protocol):
    """What the landing of pieces needs of its pool."""

    copier: HostCopier
    transfers: Transfers
    results: Results


def land_pieces(
    read: PiecedRead,
    slot: Slot,
    host: LandingHost,
    wait: Callable[[FencePoint], bool],
) -> NDArray[Any] | None:
    """Return the bytes of a read as their pieces come, or None where ``wait`` says that it is over.

    The block of ``slot`` is not used again before this has ended, whatever becomes of the read meanwhile.
    """
    user = Hold()
    try:
        note(slot.allocation.stale, user)
        if read.slot is not slot:
            return None  # over just before, and the block may be another's
        result, copier = result_of(read.region, host.results), host.copier
        with copier.gate.passing():
            move = _mover(read, result, view_of(slot.allocation.native))
        landing = BulkLanding(move, read.pieces, copier.gate, wait)
        return result if landing.run(copier.crew, host.transfers.reading.helpers) else None
    finally:
        del user  # not left to the frame, which an error that the caller keeps would keep


def _mover(read: PiecedRead, result: NDArray[Any], view: NDArray[np.uint8]) -> Callable[[int, int], None]:
    """Return what moves a piece of a read out of the block that ``view`` shows."""
    region = read.region
    if region.strided:
        destination = Destination.of(region, result, (piece.stop for piece in read.pieces))
        unit, first = region.row_pitch or 1, read.place + region.lead
        return lambda start, stop: destination.fill(view, first + start * unit, start, stop)
    target, source = ways(region, result, view, read.place)
    return lambda start, stop: MOVER.copy(target[start:stop], source[start:stop])


def result_of(region: Region, results: Results) -> NDArray[Any]:
    """Return the array that the bytes go to."""
    if region.out is not None:
        return region.out
    if region.nbytes < REUSED_BYTES:
        return np.empty(region.shape, region.dtype)
    return results.array(region)


def ways(
    region: Region, result: NDArray[Any], view: NDArray[np.uint8], place: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the bytes of ``result`` and those of the block that belong there: 1-d, or by rows."""
    nbytes, pitch, start = region.nbytes, region.row_pitch, place + region.lead
    if pitch is None:
        source = view[start : start + nbytes]
    else:
        rows = region.rows * region.size[2]
        source = np.ndarray((rows, nbytes // rows), np.uint8, view.data, offset=start, strides=(pitch, 1))
    return result.reshape(-1).view(np.uint8).reshape(source.shape), source
