"""Texture formats, and the bytes that textures of them take.

The table is WebGPU's (section 26, "Texture format capabilities"): every format by name, with the bytes of one
block as copies see it, and the most that one may take in memory, where an API is free to choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.arguments import at_least, shown
from forge3d_core.errors import UsageError
from forge3d_core.protocols import TextureFormat
from forge3d_core.units import align_up

_SUFFIXES = {"unorm": "u", "snorm": "i", "uint": "u", "sint": "i", "float": "f"}

_KINDS = {8: "unorm snorm uint sint", 16: "unorm snorm uint sint float", 32: "uint sint float"}

_FOUR_BYTES = {
    "u1": "rgba8unorm-srgb bgra8unorm bgra8unorm-srgb",
    "u4": "rgb9e5ufloat rgb10a2uint rgb10a2unorm rg11b10ufloat",
}

_DEPTH_STENCIL = (
    TextureFormat("stencil8", 1, dtype="u1"),
    TextureFormat("depth16unorm", 2, dtype="u2"),
    TextureFormat("depth24plus", 4),
    TextureFormat("depth24plus-stencil8", 8),
    TextureFormat("depth32float", 4, dtype="f4"),
    TextureFormat("depth32float-stencil8", 8),
)

_BLOCKS_OF_16 = {
    8: "bc1-rgba-unorm bc1-rgba-unorm-srgb bc4-r-unorm bc4-r-snorm "
    "etc2-rgb8unorm etc2-rgb8unorm-srgb etc2-rgb8a1unorm etc2-rgb8a1unorm-srgb eac-r11unorm eac-r11snorm",
    16: "bc2-rgba-unorm bc2-rgba-unorm-srgb bc3-rgba-unorm bc3-rgba-unorm-srgb bc5-rg-unorm bc5-rg-snorm "
    "bc6h-rgb-ufloat bc6h-rgb-float bc7-rgba-unorm bc7-rgba-unorm-srgb "
    "etc2-rgba8unorm etc2-rgba8unorm-srgb eac-rg11unorm eac-rg11snorm",
}

_ASTC = "4x4 5x4 5x5 6x5 6x6 8x5 8x6 8x8 10x5 10x6 10x8 10x10 12x10 12x12"

UNCOPYABLE = frozenset({"depth24plus", "depth24plus-stencil8", "depth32float-stencil8"})
"""Formats whose texels no copy moves whole: their layout is the API's own, or their aspects lie apart."""

ASPECTS: dict[str, dict[str, str]] = {
    "depth24plus-stencil8": {"depth": "depth24plus", "stencil": "stencil8"},
    "depth32float-stencil8": {"depth": "depth32float", "stencil": "stencil8"},
}
"""The formats of two aspects, and what each aspect is by itself. Source: WebGPU, section 26.1.2."""

MOST_BYTES = {"stencil8": 4}
"""What a texel may take in memory where that is more than a copy of it has."""


def _all() -> Iterator[TextureFormat]:
    for channels, letters in ((1, "r"), (2, "rg"), (4, "rgba")):
        for bits, kinds in _KINDS.items():
            for kind in kinds.split():
                dtype = f"{_SUFFIXES[kind]}{bits // 8}"
                name = f"{letters}{bits}{kind}"
                yield TextureFormat(name, channels * bits // 8, dtype=dtype, channels=channels)
    for dtype, names in _FOUR_BYTES.items():
        for name in names.split():
            yield TextureFormat(name, 4, dtype=dtype, channels=4 // int(dtype[1]))
    yield from _DEPTH_STENCIL
    for nbytes, names in _BLOCKS_OF_16.items():
        for name in names.split():
            yield TextureFormat(name, nbytes, (4, 4))
    for size in _ASTC.split():
        across, down = size.split("x")
        for suffix in ("", "-srgb"):
            yield TextureFormat(f"astc-{size}-unorm{suffix}", 16, (int(across), int(down)))


FORMATS: dict[str, TextureFormat] = {format.name: format for format in _all()}
"""Every texture format of WebGPU by name. Source: WebGPU, section 26.1."""


def texture_format(name: TextureFormat | str) -> TextureFormat:
    """Return the format of that name (``"R32Float"`` and ``"r32float"`` alike)."""
    if isinstance(name, TextureFormat):
        known = FORMATS.get(name.name, name)
        given = (name.block_bytes, name.block, name.dtype or known.dtype)
        if given != (known.block_bytes, known.block, known.dtype):
            raise UsageError(
                f"{name} is not what WebGPU calls {name.name}, which is {known}; the name alone will do"
            )
        return known
    found = FORMATS.get(name.lower()) if isinstance(name, str) else None
    if found is None:
        plain = [format.name for format in FORMATS.values() if format.block == (1, 1)]
        raise UsageError(
            f"texture format {shown(name)} is not known; there are {', '.join(plain)}, and the compressed "
            "ones of WebGPU (bc, etc2, eac, astc)"
        )
    return found


def texel_dtype(format: TextureFormat) -> tuple[np.dtype[Any], int]:
    """Return what one channel of a texel is, and how many there are; without a dtype, its bytes."""
    return (
        (np.dtype("u1"), format.block_bytes)
        if format.dtype is None
        else (np.dtype(format.dtype), format.channels)
    )


def is_depth_stencil(format: TextureFormat) -> bool:
    """Whether texels of ``format`` are depth, stencil or both."""
    return format.name.startswith(("depth", "stencil"))


def check_texels(array: NDArray[Any], format: TextureFormat, *, sliced: bool = False) -> None:
    """Raise :class:`UsageError` unless ``array`` is rows of texels, in kind, size and byte order.

    A compressed format has rows of blocks, each its bytes. ``sliced``: there are several such images.
    """
    dtype, channels = texel_dtype(format)
    plain = channels == 1 and format.block == (1, 1)
    shapes = ((channels,), ()) if plain else ((channels,),)
    axes = 3 if sliced else 2
    if array.dtype == dtype and array.ndim >= axes and array.shape[axes:] in shapes:
        return
    names = ("slices", "rows", "columns") if sliced else ("rows", "columns")
    if format.block != (1, 1):
        names = (*names[:-2], "rows of blocks", "columns of blocks")
    wanted = f"({', '.join(names if plain else (*names, str(channels)))})"
    advice = (
        ""
        if array.dtype == dtype
        else (
            f"; convert the values with .astype({dtype.name!r}), or take their bytes for what they are with "
            f".view({dtype.name!r})"
        )
    )
    raise UsageError(
        f"a texture of {format.name} takes {dtype.name} of shape {wanted}; this array is {array.dtype} of "
        f"shape {shown(array.shape)}{advice}"
    )


def _extent(value: int) -> int:
    return at_least(1, "each of a texture's width, height, depth, layers, mip_levels and samples", value)


@attrs.frozen
class TextureShape:
    """The extent of a texture: texels of its largest level, and how many levels, layers and samples it has.

    A cube has six layers. ``depth`` is of a 3-d texture, whose levels halve in all three directions.
    Raises :class:`UsageError` for what WebGPU has no texture of: layers of a 3-d one, levels of one with
    several samples, more levels than halving goes.
    """

    width: int = attrs.field(converter=_extent)
    height: int = attrs.field(converter=_extent)
    depth: int = attrs.field(default=1, converter=_extent, kw_only=True)
    layers: int = attrs.field(default=1, converter=_extent, kw_only=True)
    mip_levels: int = attrs.field(default=1, converter=_extent, kw_only=True)
    samples: int = attrs.field(default=1, converter=_extent, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.depth > 1 and self.layers > 1:
            raise UsageError(f"a 3-d texture has no layers: depth {self.depth}, layers {self.layers}")
        if self.mip_levels > self.most_levels:
            raise UsageError(
                f"{self.width} x {self.height} x {self.depth} texels halve to {self.most_levels} levels, "
                f"not {self.mip_levels}"
            )
        if self.samples not in (1, 4):
            raise UsageError(f"a texture has 1 or 4 samples, not {self.samples}")
        if self.samples > 1 and (self.mip_levels > 1 or self.layers > 1 or self.depth > 1):
            raise UsageError("a texture of 4 samples has one level, one layer and no depth")

    @classmethod
    def cube(cls, edge: int, *, mip_levels: int = 1) -> TextureShape:
        return cls(edge, edge, layers=6, mip_levels=mip_levels)

    @property
    def plain(self) -> bool:
        """Whether it is one 2-d image, of one level and one sample."""
        return self.depth == self.layers == self.mip_levels == self.samples == 1

    @property
    def most_levels(self) -> int:
        """How many levels halving gives, the full one and that of one texel included."""
        return max(self.width, self.height, self.depth).bit_length()

    def level(self, number: int) -> tuple[int, int, int]:
        """Return the width, height and depth of a level, 0 the largest."""
        if not 0 <= number < self.mip_levels:
            raise UsageError(f"this texture has levels 0 to {self.mip_levels - 1}, not {shown(number)}")
        width, height, depth = (max(1, extent >> number) for extent in (self.width, self.height, self.depth))
        return width, height, depth

    def level_bytes(self, number: int, format: TextureFormat) -> int:
        """Return the bytes of one level of one layer, partial blocks as whole ones, rows unpadded."""
        width, height, depth = self.level(number)
        across, down = format.block
        most = MOST_BYTES.get(format.name, format.block_bytes)
        return -(-width // across) * -(-height // down) * depth * most

    def nbytes(self, format: TextureFormat) -> int:
        """Return the bytes of all levels, layers and samples."""
        levels = sum(self.level_bytes(number, format) for number in range(self.mip_levels))
        return levels * self.layers * self.samples


def row_bytes(width: int, format: TextureFormat, alignment: int = 1) -> int:
    """Return the bytes from one row of blocks to the next where rows begin at multiples of ``alignment``."""
    return align_up(-(-width // format.block[0]) * format.block_bytes, alignment)


def block_rows(height: int, format: TextureFormat) -> int:
    """Return how many rows of blocks ``height`` texels are."""
    return -(-height // format.block[1])


def texture_bytes(width: int, height: int, format: TextureFormat) -> int:
    """Return the bytes that copies of one 2-d level have, without any padding of rows."""
    return row_bytes(width, format) * -(-height // format.block[1])
