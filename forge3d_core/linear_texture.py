"""Textures in linear memory, for APIs without texture memory of their own, or which need none of it.

Rows are tight. One level lies behind the other, the largest first; inside a level the slices (layers, or
planes of a 3-d texture), and the rows of each. Of a format with two aspects all depth comes before all
stencil. So each level of each aspect begins at a multiple of its texels' bytes.
"""

from __future__ import annotations

import attrs

from forge3d_core.commands import TextureMemory
from forge3d_core.errors import UsageError
from forge3d_core.formats import ASPECTS, FORMATS, TextureShape, block_rows, row_bytes, texel_dtype
from forge3d_core.protocols import TextureFormat


@attrs.frozen
class Images:
    """The slices of one level and aspect: ``slices`` images of ``rows`` rows, from byte ``offset`` on."""

    offset: int
    slices: int
    rows: int
    row_bytes: int

    @property
    def nbytes(self) -> int:
        return self.slices * self.rows * self.row_bytes


@attrs.frozen
class Box:
    """Texels: ``rows`` runs of ``row_bytes`` in each of ``slices`` images, from ``offset`` on."""

    offset: int
    slices: int
    rows: int
    row_bytes: int
    row_pitch: int
    slice_pitch: int

    @property
    def gapless(self) -> bool:
        """Whether all rows, of one slice after the other, are one pitch apart."""
        return self.slices == 1 or self.slice_pitch == self.rows * self.row_pitch


def images(shape: TextureShape, format: TextureFormat, level: int = 0, aspect: str = "all") -> Images:
    """Return where a level of a texture lies, all of its slices together."""
    offset = 0
    for name, layout in _planes(format):
        for number in range(shape.mip_levels):
            found = _level(shape, layout, number, offset)
            if number == level and name == aspect:
                return found
            offset = found.offset + found.nbytes * shape.samples
    raise AssertionError(f"{format.name} has no aspect {aspect!r}")  # the core asks for none


def shape_of(shape: tuple[int, ...], itemsize: int, format: TextureFormat) -> TextureShape:
    """Return what an array is as a texture: (rows, columns[, channels]), with layers in front or without.

    Raises :class:`UsageError` where it is none of ``format``.
    """
    dtype, channels = texel_dtype(format)
    bare = shape[:-1] if shape[-1:] == (channels,) and len(shape) > 2 else shape
    if (channels > 1 and bare is shape) or format.block != (1, 1) or not 2 <= len(bare) <= 3 or not all(bare):
        raise UsageError(
            f"an array of shape {shape} is no texture of {format.name}; give (rows, columns"
            f"{f', {channels}' if channels > 1 else ''}), or that with layers in front"
        )
    if itemsize != dtype.itemsize:
        raise UsageError(f"channels of {format.name} are {dtype.name}, and these items are {itemsize} bytes")
    layers, rows, columns = bare if len(bare) == 3 else (1, *bare)
    return TextureShape(columns, rows, layers=layers)


def linear_bytes(shape: TextureShape, format: TextureFormat) -> int:
    """Return how much linear memory a texture takes."""
    name, _ = _planes(format)[-1]
    last = images(shape, format, shape.mip_levels - 1, name)
    return last.offset + last.nbytes * shape.samples


def box_of(
    texture: TextureMemory, origin: tuple[int, int], size: tuple[int, int], slice: int, slices: int
) -> Box:
    """Return where the texels that a command names lie in the memory of the whole texture."""
    whole = images(texture.shape, texture.whole_format, texture.level, _aspect(texture))
    across, down = texture.format.block
    first = (texture.layer + slice) * whole.rows + origin[1] // down
    return Box(
        offset=whole.offset + first * whole.row_bytes + origin[0] // across * texture.format.block_bytes,
        slices=slices,
        rows=block_rows(size[1], texture.format),
        row_bytes=row_bytes(size[0], texture.format),
        row_pitch=whole.row_bytes,
        slice_pitch=whole.rows * whole.row_bytes,
    )


def _aspect(texture: TextureMemory) -> str:
    return texture.aspect if texture.whole_format.name in ASPECTS else "all"


def _planes(format: TextureFormat) -> list[tuple[str, TextureFormat]]:
    aspects = ASPECTS.get(format.name)
    if aspects is None:
        return [("all", format)]
    return [(aspect, FORMATS[name]) for aspect, name in aspects.items()]


def _level(shape: TextureShape, format: TextureFormat, level: int, offset: int) -> Images:
    width, height, depth = shape.level(level)
    return Images(offset, depth * shape.layers, block_rows(height, format), row_bytes(width, format))
