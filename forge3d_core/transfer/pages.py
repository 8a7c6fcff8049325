"""Fresh host memory for large results, in huge pages where the system has them."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

HUGE_BYTES = 4 * 1024**2
"""From here on memory is taken in huge pages: a first touch of 4 KiB at a time costs more than the copy."""


def fresh_memory(nbytes: int) -> NDArray[np.uint8]:
    """Return memory with anything in it; no page is touched, so the threads that write it share that work."""
    if nbytes >= HUGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            pages.madvise(mmap.MADV_HUGEPAGE)
        except (OSError, ValueError):  # no such pages here, or no mapping left
            pass
        else:
            return np.frombuffer(pages, np.uint8)
    return np.empty(nbytes, np.uint8)
