"""A terrain to shade, of any size, and whether its picture is right."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from forge3d_core.demo import Light, Terrain, Tile
from forge3d_core.demo.check import compare
from forge3d_core.errors import StateError

PERIOD = 512  # rows, after which the hills begin again
METRES = 30.0
TOLERANCE = 1  # grey levels, as float32 rounds differently on each device


def hills(nbytes: int) -> Terrain:
    """Return about ``nbytes`` of elevations, as square as can be."""
    width = max(4, math.isqrt(nbytes // 4) // 4 * 4)
    height = max(4, nbytes // 4 // width)
    x, y = np.arange(width, dtype=np.float32), np.arange(min(height, PERIOD), dtype=np.float32)[:, None]
    return Terrain(
        np.resize(300 * np.sin(x / 40) * np.cos(y * (2 * np.pi / PERIOD)), (height, width)), METRES, METRES
    )


def blank(terrain: Terrain) -> NDArray[np.uint8]:
    """Return a picture whose memory has been touched."""
    return np.full(terrain.elevation.shape, 0, np.uint8)


def check(plan: list[Tile], terrain: Terrain, picture: NDArray[np.uint8]) -> None:
    """Raise unless the picture is numpy's: what is wrong is not to be timed."""
    wrong, largest = compare(plan, terrain, Light(), picture, TOLERANCE, lambda _phase, _done, _all: None)
    if wrong:
        raise StateError(f"{wrong} of {len(plan)} tiles are wrong, by up to {largest} grey levels")
