"""Device memory: buffers and textures."""

from __future__ import annotations

from typing import Any, Protocol, Self, TypedDict, runtime_checkable

import attrs
import numpy as np

from forge3d_core import arguments
from forge3d_core.dtypes import element_dtype
from forge3d_core.errors import UsageError


def _name(value: str) -> str:
    return arguments.text("a texture format's name", value)


def _block_bytes(value: int) -> int:
    return arguments.at_least(1, "block_bytes", value)


def _block(value: tuple[int, int]) -> tuple[int, int]:
    across, down = arguments.pair("block", value)
    return arguments.at_least(1, "block", across), arguments.at_least(1, "block", down)


def _channels(value: int) -> int:
    return arguments.at_least(1, "channels", value)


def _dtype(value: str | None) -> str | None:
    return None if value is None else element_dtype(value)


@attrs.frozen
class TextureFormat:
    """A texel layout. ``block`` is (1, 1) for plain formats, (4, 4) and up for compressed ones.

    Raises :class:`UsageError` for sizes that contradict each other.
    """

    name: str = attrs.field(converter=_name)  # as in WebGPU: "rgba8unorm"
    block_bytes: int = attrs.field(converter=_block_bytes)
    block: tuple[int, int] = attrs.field(default=(1, 1), converter=_block)
    dtype: str | None = attrs.field(
        default=None, converter=_dtype
    )  # of one channel; None where there is none
    channels: int = attrs.field(default=1, converter=_channels)

    def __attrs_post_init__(self) -> None:
        if self.dtype is not None and np.dtype(self.dtype).itemsize * self.channels != self.block_bytes:
            raise UsageError(
                f"texture format {self.name!r}: {self.channels} channel(s) of {self.dtype} are not "
                f"{self.block_bytes} bytes"
            )


class _Memory(Protocol):
    @property
    def nbytes(self) -> int:
        """Its size in bytes, without any padding."""

    @property
    def label(self) -> str:
        """What its maker called it; for messages alone."""

    @property
    def native(self) -> Any:
        """The API's own object. What is done through it is outside forge3d's ordering and budget."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def close(self) -> None:
        """Give the memory back once the device no longer uses it; idempotent, never blocks."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


@runtime_checkable
class Buffer(_Memory, Protocol):
    """A run of ``nbytes`` bytes of device memory.

    A buffer dropped without ``close`` gives its memory back when it is collected. On CUDA it carries
    ``__cuda_array_interface__``.
    """


@runtime_checkable
class RecyclableBuffer(Buffer, Protocol):
    """A buffer whose memory can pass to a new owner without an allocation.

    Buffers of devices that the core assembles are; others need not be.
    """

    def recycle(self) -> Buffer | None:
        """Return the same memory, bytes and all, as a new buffer and close this one; None while it is in use.

        In use is what submitted work has not finished with, and what a slice or a read that is not submitted
        yet names. A command list that names the old buffer raises :class:`Closed` when it is submitted later.
        None also for adopted memory, which is its owner's. Raises :class:`Closed` for a closed buffer.
        """


@runtime_checkable
class Texture(_Memory, Protocol):
    """A 2-d image in device memory; texel (0, 0) is the top left corner."""

    @property
    def width(self) -> int:
        """Texels from left to right."""

    @property
    def height(self) -> int:
        """Texels from top to bottom."""

    @property
    def format(self) -> TextureFormat:
        """The layout of a texel."""


Origin = tuple[int, int] | tuple[int, int, int]
"""Texels across and down, and, where a texture has slices, which slice or how many."""


class TextureExtent(TypedDict, total=False):
    """What a texture has besides a width and a height, as keywords of ``create_texture``; 1 by default."""

    depth: int
    layers: int
    mip_levels: int
    samples: int


@runtime_checkable
class ShapedTexture(Texture, Protocol):
    """A texture with levels, layers, depth or samples, or a part of one.

    A 2-d image in device memory; texel (0, 0) is the top left corner. Where it has layers or depth, it is as
    many images, its *slices*: then arrays for it, and reads of it, have one axis more, in front, and
    ``origin`` and ``size`` may have a third number, the slice and how many. Compressed formats are uploaded
    and read by block: ``u1`` of shape (rows of blocks, columns of blocks, bytes of a block).

    Textures of devices that the core assembles are; others need not be.
    """

    @property
    def depth(self) -> int:
        """Planes of a 3-d texture, front to back; 1 of others."""

    @property
    def layers(self) -> int:
        """How many images of this size it has; 1 of a 3-d one."""

    @property
    def mip_levels(self) -> int:
        """How many levels, each half as wide, high and deep as the one before."""

    @property
    def samples(self) -> int:
        """Samples of a texel, 1 or 4; copies move textures of one alone."""

    def view(self, *, level: int = 0, layer: int | None = None, aspect: str = "all") -> Texture:
        """Return one level of it, and of that one layer or all, as a texture: for all that takes textures.

        ``aspect``: ``depth`` or ``stencil`` of a format that has both. It shares the memory, whose uses the
        device orders as of one; it is closed when the whole is, and to close it gives nothing back. Raises
        :class:`UsageError` for a level, layer or aspect that is not there.
        """
