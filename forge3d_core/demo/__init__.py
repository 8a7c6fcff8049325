"""The main job, end to end: stream a real elevation model through ring, kernel and readback pool."""

from forge3d_core.demo.hillshade import HILLSHADE, Light
from forge3d_core.demo.stream import StreamReport, TerrainStream, shade_terrain
from forge3d_core.demo.terrain import Terrain, load_terrain
from forge3d_core.demo.tiles import Tile, bands, tiles

__all__ = [
    "HILLSHADE",
    "Light",
    "StreamReport",
    "Terrain",
    "TerrainStream",
    "Tile",
    "bands",
    "load_terrain",
    "shade_terrain",
    "tiles",
]
