"""The memory that is read: its size, and how it is written past the staging ring."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZE = 10_000


def poke(memory: Any, data: np.ndarray[Any, Any]) -> None:
    """Write device memory past the staging ring."""
    np.asarray(memory.native).reshape(-1)[: data.nbytes] = data.reshape(-1).view(np.uint8)
