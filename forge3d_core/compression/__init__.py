"""Block-compressed textures (O3): encoded on the host, uploaded as blocks, decoded on the device.

All of it is written over :mod:`forge3d_core.protocols` alone, so it runs on any backend.
"""

from forge3d_core.compression.decoder import DECODED, decode, upload_decoded
from forge3d_core.compression.encoder import CompressedImage, encode, psnr

__all__ = ["DECODED", "CompressedImage", "decode", "encode", "psnr", "upload_decoded"]
