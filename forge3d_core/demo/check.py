"""Whether a picture is what numpy makes of the same terrain."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from forge3d_core.demo.hillshade import CACHED_SAMPLES, Light, shade
from forge3d_core.demo.terrain import Terrain
from forge3d_core.demo.tiles import Tile


def compare(
    plan: Sequence[Tile],
    terrain: Terrain,
    light: Light,
    picture: NDArray[np.uint8],
    tolerance: int,
    progress: Callable[[str, int, int], object],
) -> tuple[int, int]:
    """Return how many tiles differ from numpy by more than ``tolerance``, and the largest difference."""
    scales = light.scales(terrain.dx, terrain.dy)

    def difference(piece: Tile) -> int:
        expected = shade(piece.bordered(terrain), *scales).astype(np.int16)
        return int(np.abs(piece.of(picture) - expected).max())

    pieces = [(number, piece) for number, tile in enumerate(plan) for piece in tile.cut(CACHED_SAMPLES)]
    worst = [0] * len(plan)
    with ThreadPoolExecutor(os.cpu_count() or 1) as workers:  # numpy lets go of the GIL
        found = workers.map(difference, (piece for _, piece in pieces))
        for done, ((number, _), seen) in enumerate(zip(pieces, found, strict=True), 1):
            worst[number] = max(worst[number], seen)
            progress("checking", done, len(pieces))
    return sum(seen > tolerance for seen in worst), max(worst)
