"""Device memory: buffers and textures."""

from __future__ import annotations

from typing import Any, Protocol, Self, runtime_checkable

import attrs


@attrs.frozen
class TextureFormat:
    """A texel layout. ``block`` is (1, 1) for plain formats, (4, 4) and up for compressed ones."""

    name: str  # as in WebGPU: "rgba8unorm"
    block_bytes: int
    block: tuple[int, int] = (1, 1)
    dtype: str | None = None  # numpy dtype of one channel, None where there is none
    channels: int = 1


class _Memory(Protocol):
    @property
    def nbytes(self) -> int: ...

    @property
    def label(self) -> str: ...

    @property
    def native(self) -> Any:
        """The API's own object. What is done through it is outside forge3d's ordering and budget."""

    @property
    def closed(self) -> bool: ...

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
class Texture(_Memory, Protocol):
    """A 2-d image in device memory; texel (0, 0) is the top left corner."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def format(self) -> TextureFormat: ...
