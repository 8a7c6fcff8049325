"""Encoding: an image to blocks, by etcpak, ARM's astcenc and Intel's ISPC (extra ``compression``)."""

from __future__ import annotations

import importlib
import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.arguments import shown
from forge3d_core.errors import MissingDependency, UsageError
from forge3d_core.formats import texture_format
from forge3d_core.presentation import Figures, line
from forge3d_core.protocols import TextureFormat
from forge3d_core.units import format_bytes

CODERS = {
    "bc1-rgba-unorm": "compress_bc1",
    "bc3-rgba-unorm": "compress_bc3",
    "bc4-r-unorm": "compress_bc4",
    "bc5-rg-unorm": "compress_bc5",
    "bc7-rgba-unorm": "compress_bc7",
    "etc2-rgb8unorm": "compress_etc2_rgb",
    "etc2-rgba8unorm": "compress_etc2_rgba",
}
"""What etcpak makes of RGBA8. Its BC1 is opaque: for holes take BC3 or BC7."""

BC6H_QUALITY = "basic"
"""Of ISPC's encoder: veryfast, fast, basic, slow or veryslow."""

ASTC_QUALITY = 60.0
"""Of astcenc, 0 to 100: its preset "medium"."""

FIX = "pip install 'forge3d-core[compression]'"


@attrs.frozen
class CompressedImage(Figures):
    """An image as blocks, in rows from the top."""

    width: int
    height: int
    format: TextureFormat
    blocks: NDArray[np.uint8] = attrs.field(repr=False, eq=attrs.cmp_using(np.array_equal))

    @property
    def ratio(self) -> float:
        """How many times smaller than RGBA8 it is."""
        return 4 * self.width * self.height / self.blocks.nbytes

    def __repr__(self) -> str:
        return line(
            f"compressed image {self.width}x{self.height} {self.format.name}",
            format_bytes(self.blocks.nbytes),
        )


def encode(image: NDArray[Any], format: TextureFormat | str) -> CompressedImage:
    """Return an image (rows, columns[, channels]) of bytes, or of floats for BC6H, as blocks of ``format``.

    One channel is red, two are red and green, three are opaque. ``bc6h-rgb-ufloat`` takes half floats, or
    wider ones, of zero and above, and leaves alpha out. Bytes for sRGB formats are encoded so already. Sides
    that are no multiple of a block's are filled up with the last row and column. Raises
    :class:`MissingDependency` without the encoder, :class:`UsageError` for another dtype or shape, and for
    formats that no encoder here makes.
    """
    layout = texture_format(format)
    name = layout.name.removesuffix("-srgb")
    texels: NDArray[Any] = _halves(image) if name == "bc6h-rgb-ufloat" else rgba(image)
    height, width = texels.shape[:2]
    across, down = layout.block
    padded: NDArray[Any] = np.pad(texels, ((0, -height % down), (0, -width % across), (0, 0)), mode="edge")
    if name == "bc6h-rgb-ufloat":
        data = _bc6h(padded)
    elif name in CODERS:
        coder = getattr(_library("etcpak", name), CODERS[name])
        data = coder(padded.tobytes(), padded.shape[1], padded.shape[0])
    elif name.startswith("astc-"):
        data = _astc(padded, across, down)
    else:
        raise UsageError(
            f"there is no encoder for {layout.name!r}; there is one for {', '.join(CODERS)}, "
            "bc6h-rgb-ufloat, and astc-4x4-unorm and its like"
        )
    return CompressedImage(width, height, layout, np.frombuffer(data, np.uint8))


def rgba(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image (rows, columns[, channels]) of bytes as RGBA."""
    texels = np.asarray(image)
    if texels.ndim == 2:
        texels = texels[..., None]
    if texels.dtype != np.uint8 or texels.ndim != 3 or not 1 <= texels.shape[2] <= 4 or 0 in texels.shape:
        raise UsageError(
            f"an image is (rows, columns) or (rows, columns, 1 to 4) of uint8, not {shown(texels.dtype)} of "
            f"shape {texels.shape}"
        )
    full = np.zeros((*texels.shape[:2], 4), np.uint8)
    full[..., 3] = 255
    full[..., : texels.shape[2]] = texels
    return full


def psnr(image: NDArray[Any], other: NDArray[Any], peak: float = 255.0) -> float:
    """Return the peak signal-to-noise ratio of two arrays in dB; infinite where they are equal."""
    error = float(np.mean((image.astype(np.float64) - other.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def _halves(image: NDArray[Any]) -> NDArray[np.float16]:
    """Return an image of floats as RGBA of half floats."""
    given = np.asarray(image)
    channels = given.shape[2] if given.ndim == 3 else 1
    most = float(np.finfo(np.float16).max)
    if given.dtype.kind != "f" or given.ndim not in (2, 3) or not 1 <= channels <= 4 or 0 in given.shape:
        raise UsageError(
            f"an image for BC6H is (rows, columns) or (rows, columns, 1 to 4) of floats, not "
            f"{shown(given.dtype)} of shape {given.shape}"
        )
    if not (np.isfinite(given).all() and given.min() >= 0 and given.max() <= most):
        raise UsageError(f"bc6h-rgb-ufloat holds numbers from 0 to {most:g}; these go beyond, or are none")
    full = np.ones((*given.shape[:2], 4), np.float16)
    full[..., :3] = 0
    full[..., :channels] = given.reshape(*given.shape[:2], channels)
    return full


def _bc6h(texels: NDArray[np.float16]) -> bytes:
    library = _library("ispc_texcomp", "BC6H")
    surface = library.RGBASurface(texels.tobytes(), texels.shape[1], texels.shape[0], 8 * texels.shape[1])
    settings = library.BC6HEncSettings.from_profile(BC6H_QUALITY)
    return bytes(library.compress_blocks_bc6h(surface, settings))


def _astc(texels: NDArray[np.uint8], across: int, down: int) -> bytes:
    library = _library("astc_encoder", "ASTC")
    config = library.ASTCConfig(library.ASTCProfile.LDR, across, down, 1, ASTC_QUALITY)
    image = library.ASTCImage(library.ASTCType.U8, texels.shape[1], texels.shape[0], 1, texels.tobytes())
    encoded: bytes = library.ASTCContext(config).compress(image, library.ASTCSwizzle.from_str("RGBA"))
    return encoded


def _library(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependency(f"encoding {what} needs {name}; install it: {FIX}", fix=FIX) from error
