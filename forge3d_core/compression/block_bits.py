"""The indices of blocks of BC6H and BC7, by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def indices(bits: NDArray[Any], at: int, count: int, anchors: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the indices of the texels; an anchor's highest bit is left out, and zero."""
    texel = np.arange(16)
    here = sum((anchor[:, None] == texel).astype(np.int64) for anchor in anchors)
    before = sum((anchor[:, None] < texel).astype(np.int64) for anchor in anchors)
    place = at + texel * count - before
    index = np.zeros((len(bits), 16), np.int64)
    for n in range(count):
        bit = np.take_along_axis(bits, np.minimum(place + n, 127), 1).astype(np.int64)
        index |= np.where(n < count - here, bit, 0) << n
    return index


def weights(index: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return how much of the second end, in 64ths, indices of ``count`` bits stand for."""
    most = (1 << count) - 1
    return (64 * index + most // 2) // most
