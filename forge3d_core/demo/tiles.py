"""Cutting a terrain into tiles."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.demo.hillshade import PIXELS_PER_THREAD
from forge3d_core.demo.terrain import Terrain
from forge3d_core.errors import UsageError

BORDER = 1  # samples that a tile needs on each side
SAMPLE_BYTES = 4
BANDS = 8
MIN_BAND, MAX_BAND = 4 << 20, 128 << 20  # bytes


@attrs.frozen
class Tile:
    """A rectangle of the terrain, in samples."""

    x: int
    y: int
    width: int
    height: int

    def window(self, terrain: Terrain) -> NDArray[np.float32]:
        """Return its elevations with their border, as far as the terrain goes; a view."""
        return terrain.elevation[
            max(self.y - BORDER, 0) : self.y + self.height + BORDER,
            max(self.x - BORDER, 0) : self.x + self.width + BORDER,
        ]

    @property
    def inset(self) -> tuple[int, int]:
        """Where it begins in its window: column and row."""
        return min(self.x, BORDER), min(self.y, BORDER)

    def bordered(self, terrain: Terrain) -> NDArray[np.float32]:
        """Return its elevations and border, (height + 2, width + 2); past the edge the last repeats."""
        rows, columns = terrain.elevation.shape
        down = np.clip(np.arange(self.y - BORDER, self.y + self.height + BORDER), 0, rows - 1)
        across = np.clip(np.arange(self.x - BORDER, self.x + self.width + BORDER), 0, columns - 1)
        return terrain.elevation[np.ix_(down, across)]

    def of(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return its place in the picture; a view."""
        return picture[self.y : self.y + self.height, self.x : self.x + self.width]

    def cut(self, samples: int) -> Iterator[Tile]:
        """Yield pieces of whole rows, of about so many samples."""
        step = max(1, samples // self.width)
        for y in range(self.y, self.y + self.height, step):
            yield attrs.evolve(self, y=y, height=min(step, self.y + self.height - y))


def tiles(terrain: Terrain, side: int) -> Iterator[Tile]:
    """Yield the tiles that cover the terrain, at most ``side`` samples a side."""
    height, width = terrain.elevation.shape
    if side < PIXELS_PER_THREAD or side % PIXELS_PER_THREAD:
        raise UsageError(f"a tile's side is a multiple of {PIXELS_PER_THREAD} samples, not {side}")
    for y in range(0, height, side):
        for x in range(0, width, side):
            yield Tile(x, y, min(side, width - x), min(side, height - y))


def bands(terrain: Terrain, nbytes: int | None = None) -> Iterator[Tile]:
    """Yield tiles of whole rows, of about ``nbytes`` of elevations, that cover the terrain.

    By default an eighth of it, from 4 to 128 MiB: enough of them to overlap, each large enough to be copied
    by many threads. Their windows lie in one piece in the terrain, and their shades in the picture, so they
    move as they are.
    """
    height, width = terrain.elevation.shape
    if nbytes is None:
        nbytes = min(max(terrain.nbytes // BANDS, MIN_BAND), MAX_BAND)
    yield from Tile(0, 0, width, height).cut(nbytes // SAMPLE_BYTES)
