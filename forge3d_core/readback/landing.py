"""How the bytes of a read come out of its block: the one place that copies them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_core.readback.region import Region
from forge3d_core.readback.results import REUSED_BYTES, Results
from forge3d_core.transfer.copying import PARALLEL_BYTES, HostCopier


def land(
    region: Region, view: NDArray[np.uint8], place: int, results: Results, copier: HostCopier
) -> NDArray[Any]:
    """Return the bytes of ``region`` as the caller's array, or as a new one.

    ``view`` is the whole block, in which the read's part begins at ``place``. The guard of the device is
    passed: the block does not go meanwhile.
    """
    result = result_of(region, results)
    target, source = ways(region, result, view, place)
    if region.nbytes < 2 * PARALLEL_BYTES:
        np.copyto(target, source)
    else:
        copier.copy(target, source)
    return result


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
        height = region.size[1]
        source = np.ndarray((height, nbytes // height), np.uint8, view.data, offset=start, strides=(pitch, 1))
    return result.reshape(-1).view(np.uint8).reshape(source.shape), source
