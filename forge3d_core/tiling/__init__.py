"""Operations on arrays and images that are larger than the memory there is: tile by tile, overlapped.

All of it is written over :mod:`forge3d_core.protocols` alone, so it runs on any backend.
"""

from forge3d_core.tiling.plan import Tile, TilePlan, Tiling
from forge3d_core.tiling.process import process
from forge3d_core.tiling.quality import available_bytes, choose_quality

__all__ = ["Tile", "TilePlan", "Tiling", "available_bytes", "choose_quality", "process"]
