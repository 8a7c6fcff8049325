"""Buffers and textures: numpy bytes, and the points of those who use them."""

from __future__ import annotations

import re
import weakref
from typing import Any

import attrs
import numpy as np

from forge3d_core.errors import Closed, ForeignObject, OutOfRange, UsageError
from forge3d_core.protocols import TextureFormat
from stranger.shield import shielded
from stranger.timeline import Point

PLAIN = re.compile(r"(r|rg|rgba)(8|16|32)(unorm|snorm|uint|sint|float)")


def format_named(name: TextureFormat | str) -> TextureFormat:
    """Return the layout of an uncompressed WebGPU colour format."""
    if isinstance(name, TextureFormat):
        return name
    match = PLAIN.fullmatch(str(name).lower())
    known = match is not None and (match[3] != "float" if match[2] == "8" else not match[3].endswith("norm"))
    if match is None or not known:
        raise UsageError(f"texture format {name!r} is not known here; 'rgba8unorm' and its like are")
    size, letter = int(match[2]) // 8, {"u": "u", "s": "i", "f": "f"}[match[3][0]]
    return TextureFormat(match[0], len(match[1]) * size, dtype=f"{letter}{size}", channels=len(match[1]))


@attrs.define(eq=False)
class Store:
    """The bytes, and what the device last did with them; it outlives the object the caller holds."""

    data: Any  # 1-d uint8 for a buffer, (rows, bytes) for a texture
    reservation: Any = None
    writer: Point | None = None
    readers: dict[str, Point] = attrs.field(factory=dict)
    reached: bool = False  # by somebody's array, or an alias of it, that was taken back

    def renew(self) -> None:
        """Leave the memory to who still reaches it, and take other."""
        self.data, self.reached = np.zeros_like(self.data), False

    def users(self) -> list[Point]:
        return [*([self.writer] if self.writer else []), *self.readers.values()]


@shielded
class Memory:
    def __init__(self, device: Any, store: Store, nbytes: int, label: str) -> None:
        self.nbytes, self.label, self.store, self._device = nbytes, label, store, device
        self.closed = False
        self._finalizer = weakref.finalize(self, device.collected.append, store)
        self._finalizer.atexit = False

    @property
    def native(self) -> Any:
        self.check()
        return self.store.data

    def check(self, device: Any = None) -> None:
        if device is not None and device is not self._device:
            raise ForeignObject(f"memory {self.label!r} belongs to another device")
        if self.closed or self._device.closed:
            raise Closed(f"memory {self.label!r} of {self.nbytes} bytes was closed")

    def close(self) -> None:
        if not self.closed and self._finalizer.detach() is not None:
            self.closed = True
            self._device.give_back(self.store.reservation, self.store.users())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


@shielded
class Buffer(Memory):
    def region(self, offset: int, nbytes: int) -> None:
        if offset < 0 or nbytes < 0 or offset + nbytes > self.nbytes:
            raise OutOfRange(f"bytes {offset} to {offset + nbytes} do not lie in a buffer of {self.nbytes}")

    def bytes(self, offset: int, nbytes: int) -> Any:
        return self.store.data[offset : offset + nbytes]


@shielded
class Texture(Memory):
    def __init__(
        self, device: Any, store: Store, width: int, height: int, format: TextureFormat, label: str
    ) -> None:
        super().__init__(device, store, store.data.nbytes, label)
        self.width, self.height, self.format = width, height, format

    def region(self, origin: tuple[int, int], size: tuple[int, int]) -> None:
        (x, y), (w, h) = origin, size
        if min(x, y, w, h) < 0 or x + w > self.width or y + h > self.height:
            raise OutOfRange(f"{w}x{h} texels at {origin} do not lie in {self.width}x{self.height}")

    def texels(self, origin: tuple[int, int], size: tuple[int, int]) -> Any:
        """Return rows of bytes."""
        (x, y), (w, h), texel = origin, size, self.format.block_bytes
        return self.store.data[y : y + h, x * texel : (x + w) * texel]


def rows_in(block: Any, offset: int, pitch: int, shape: tuple[int, int]) -> Any:
    """Return ``shape`` (rows, bytes) of a block, ``pitch`` bytes from row to row."""
    return np.lib.stride_tricks.as_strided(block[offset:], shape, (pitch, 1))
