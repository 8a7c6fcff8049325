"""A real elevation model, repeated to any size."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.errors import MissingDependency, UsageError
from forge3d_core.units import align_up

METRES_PER_DEGREE = 111_200.0
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
        width = max(4, align_up(math.isqrt(nbytes // 4), 4))
        height = max(4, nbytes // 4 // width)
        grown = self.elevation[
            np.ix_(_mirrored(self.elevation.shape[0], height), _mirrored(self.elevation.shape[1], width))
        ]
        return attrs.evolve(self, elevation=np.ascontiguousarray(grown))


def load_terrain() -> Terrain:
    """Return the Jacksboro fault elevation model, 344 x 403 samples at 3 arc seconds (SRTM, Tennessee).

    It comes with matplotlib. Raises :class:`MissingDependency` where that is not installed.
    """
    try:
        from matplotlib.cbook import get_sample_data
    except ImportError as error:
        fix = 'pip install "forge3d-core[demo]"'
        raise MissingDependency(
            f"the demo's elevation model comes with matplotlib ({error}); {fix}", fix=fix
        ) from None
    opened: Any = get_sample_data(SAMPLE)
    with opened as sample:
        elevation = np.asarray(sample["elevation"], np.float32)
        latitude = math.radians((float(sample["ymin"]) + float(sample["ymax"])) / 2)
        dy = METRES_PER_DEGREE * float(sample["dy"])
        dx = METRES_PER_DEGREE * float(sample["dx"]) * math.cos(latitude)
    return Terrain(elevation, dx, dy)


def _mirrored(size: int, wanted: int) -> NDArray[np.intp]:
    """Return ``wanted`` indices that run to and fro over ``size``."""
    there_and_back = np.concatenate([np.arange(size), np.arange(size)[::-1]])
    return np.resize(there_and_back, wanted)
