"""The main job, end to end: stream a real elevation model through ring, kernel and readback pool."""

from forge3d_core.demo.hillshade import HILLSHADE, Light
from forge3d_core.demo.stream import StreamReport, Tile, shade_terrain, tiles
from forge3d_core.demo.terrain import Terrain, load_terrain

__all__ = [
    "HILLSHADE",
    "Light",
    "StreamReport",
    "Terrain",
    "Tile",
    "load_terrain",
    "shade_terrain",
    "tiles",
]
