"""A real elevation model, repeated to any size."""

from __future__ import annotations

import math
import os
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.errors import MissingDependency, UsageError
from forge3d_core.plugins.own import CORE, installing
from forge3d_core.units import align_up, format_bytes

METRES_PER_DEGREE = 111_200.0
BLOCK_BYTES = 16 << 20
SAMPLE = "jacksboro_fault_dem.npz"


@attrs.frozen(eq=False)
class Terrain:
    """Elevations in metres, float32, of shape (height, width), and the metres between samples."""

    elevation: NDArray[np.float32]
    dx: float
    dy: float

    @property
    def nbytes(self) -> int:
        return self.elevation.nbytes

    def grown_to(self, nbytes: int) -> Terrain:
        """Repeat the model, mirrored at its edges so that no seam shows, to about ``nbytes``.

        The result is as square as can be, its width a multiple of 4 samples; never less than 4 x 4.
        """
        if nbytes < 64:
            raise UsageError(f"a terrain has at least 64 bytes (4 x 4 samples), not {nbytes}")
        if nbytes > (most := _most_bytes()):
            raise UsageError(
                f"{format_bytes(nbytes)} of elevations and their picture do not fit this machine's memory; "
                f"ask for at most {format_bytes(most)}"
            )
        width = max(4, align_up(math.isqrt(nbytes // 4), 4))
        height = max(4, nbytes // 4 // width)
        down, across = (_mirrored(n, m) for n, m in zip(self.elevation.shape, (height, width), strict=True))
        grown = np.empty((height, width), np.float32)
        step = max(1, BLOCK_BYTES // (4 * width))
        for top in range(0, height, step):  # an interrupt has to wait for one of these
            grown[top : top + step] = self.elevation[np.ix_(down[top : top + step], across)]
        return attrs.evolve(self, elevation=grown)


def load_terrain() -> Terrain:
    """Return the Jacksboro fault elevation model, 344 x 403 samples at 3 arc seconds (SRTM, Tennessee).

    It comes with matplotlib. Raises :class:`MissingDependency` where that is not installed.
    """
    try:
        from matplotlib.cbook import get_sample_data
    except ImportError as error:
        fix = installing(CORE, "demo")
        raise MissingDependency(
            f"the demo's elevation model comes with matplotlib ({error}); try: {fix}", fix=fix
        ) from None
    opened: Any = get_sample_data(SAMPLE)
    with opened as sample:
        elevation = np.asarray(sample["elevation"], np.float32)
        latitude = math.radians((float(sample["ymin"]) + float(sample["ymax"])) / 2)
        dy = METRES_PER_DEGREE * float(sample["dy"])
        dx = METRES_PER_DEGREE * float(sample["dx"]) * math.cos(latitude)
    return Terrain(elevation, dx, dy)


def _most_bytes() -> int:
    """Return how large a terrain may be: what is made of it has to fit as well."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 1 << 40
    return memory // 3


def _mirrored(size: int, wanted: int) -> NDArray[np.intp]:
    """Return ``wanted`` indices that run to and fro over ``size``."""
    there_and_back = np.concatenate([np.arange(size), np.arange(size)[::-1]])
    return np.resize(there_and_back, wanted)
