"""The bytes that are moved."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERIOD = 1 << 20


def payload(nbytes: int) -> NDArray[np.uint8]:
    """Return random bytes, the same each time; after a MiB they begin again, as a GiB would take seconds."""
    pattern = np.random.default_rng(7).integers(0, 256, min(nbytes, PERIOD), dtype=np.uint8)
    return np.resize(pattern, nbytes)
