"""Cold resources: buffers and textures that rest in compressed host memory until they are used again.

All of it is written over :mod:`forge3d_core.protocols` alone, so it runs on any backend.
"""

from forge3d_core.cold.codec import Codec, codec_of
from forge3d_core.cold.resource import ColdBuffer, ColdTexture
from forge3d_core.cold.store import ColdStats, ColdStore

__all__ = ["Codec", "ColdBuffer", "ColdStats", "ColdStore", "ColdTexture", "codec_of"]
