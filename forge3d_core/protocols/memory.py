"""Device memory: buffers and textures."""

from __future__ import annotations

from typing import Any, Protocol, Self, runtime_checkable

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
