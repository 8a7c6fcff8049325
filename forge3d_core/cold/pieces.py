"""What a cold resource is cut into: parts of a buffer, or the images of a texture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.errors import UsageError
from forge3d_core.formats import TextureShape, is_depth_stencil, texel_dtype
from forge3d_core.protocols import (
    Buffer,
    Device,
    FencePoint,
    Origin,
    ReadbackHandle,
    ReadbackPool,
    ShapedTexture,
    StagingRing,
    Texture,
    TextureDevice,
    TextureFormat,
)
from forge3d_core.units import MIB

PART = MIB
"""Bytes of a buffer that are compressed at a time; of a texture it is an image of one level."""

T = TypeVar("T")


class Pieces(Protocol[T]):
    """How a resource is made, read and written again, piece by piece."""

    @property
    def nbytes(self) -> int: ...

    def make(self, device: Device) -> T:
        """Return a new one, zeroed."""

    def read(self, pool: ReadbackPool, content: T) -> Iterator[ReadbackHandle]:
        """Yield a read for each piece, submitted when it is asked for."""

    def write(self, ring: StagingRing, content: T, index: int, data: bytes) -> FencePoint:
        """Write the bytes of a piece again."""


@attrs.frozen
class BufferPieces:
    """A buffer."""

    nbytes: int

    def make(self, device: Device) -> Buffer:
        return device.create_buffer(self.nbytes, label="cold")

    def read(self, pool: ReadbackPool, content: Buffer) -> Iterator[ReadbackHandle]:
        for offset in range(0, self.nbytes, PART):
            yield pool.read(content, offset=offset, nbytes=min(PART, self.nbytes - offset))

    def write(self, ring: StagingRing, content: Buffer, index: int, data: bytes) -> FencePoint:
        return ring.upload(np.frombuffer(data, np.uint8), content, index * PART)


@attrs.frozen
class TexturePieces:
    """A texture of colours, plain or compressed; raises :class:`UsageError` for what copies do not move."""

    shape: TextureShape
    format: TextureFormat

    def __attrs_post_init__(self) -> None:
        if is_depth_stencil(self.format) or self.shape.samples > 1:
            raise UsageError(
                "a cold texture has colours, and one sample of a texel, as copies bring no other back; not "
                f"{self.format.name} of {self.shape.samples} sample(s)"
            )

    @property
    def nbytes(self) -> int:
        return self.shape.nbytes(self.format)

    def make(self, device: Device) -> Texture:
        shape = self.shape
        if shape.plain:
            return device.create_texture(shape.width, shape.height, self.format, label="cold")
        if not isinstance(device, TextureDevice):
            raise UsageError(f"{device!r} has textures of one level and one layer alone")
        return device.create_texture(
            shape.width,
            shape.height,
            self.format,
            label="cold",
            depth=shape.depth,
            layers=shape.layers,
            mip_levels=shape.mip_levels,
        )

    def read(self, pool: ReadbackPool, content: Texture) -> Iterator[ReadbackHandle]:
        for part, place, size in self._images(content):
            yield pool.read(part, origin=place, size=size)

    def write(self, ring: StagingRing, content: Texture, index: int, data: bytes) -> FencePoint:
        part, place, (width, height, *slices) = list(self._images(content))[index]
        across, down = self.format.block
        dtype, channels = texel_dtype(self.format)
        texels: NDArray[Any] = np.frombuffer(data, dtype)
        axes = (*slices, -(-height // down), -(-width // across), *((channels,) if channels > 1 else ()))
        return ring.upload(texels.reshape(axes), part, origin=place)

    def _images(self, content: Texture) -> Iterator[tuple[Texture, Origin, Origin]]:
        """Yield each image: its level, where it begins and its size, with the slice where there are any."""
        for level in range(self.shape.mip_levels):
            part = content
            if not self.shape.plain:
                assert isinstance(content, ShapedTexture)  # it was made with levels, layers or depth
                part = content.view(level=level)
            width, height, depth = self.shape.level(level)
            slices = depth * self.shape.layers
            for number in range(slices):
                sliced = self.shape.depth > 1 or self.shape.layers > 1
                yield (
                    (part, (0, 0, number), (width, height, 1)) if sliced else (part, (0, 0), (width, height))
                )
