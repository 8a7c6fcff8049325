"""Pictures on their way home, and what becomes of the texels of each format there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_core.presentation import line
from forge3d_core.protocols import ReadbackHandle, TextureFormat
from forge3d_core.transfer.copying import INLINE_BYTES, aside
from forge3d_core.transfer.workers import CREW

Convert = Callable[[NDArray[Any]], NDArray[Any]]


def _rgba(texels: NDArray[Any]) -> NDArray[Any]:
    picture = texels.copy()
    picture[..., 0], picture[..., 2] = texels[..., 2], texels[..., 0]
    return picture


def _unit(texels: NDArray[Any]) -> NDArray[np.float32]:
    depths: NDArray[np.float32] = np.divide(texels, np.float32(65535), dtype=np.float32)
    return depths


CONVERTED: dict[str, Convert] = {"bgra8unorm": _rgba, "bgra8unorm-srgb": _rgba, "depth16unorm": _unit}
"""What is done with the texels of a format that a picture has otherwise; all others stay as they are.

The channels of a picture are red, green, blue and alpha, and depths are float32, from 0 to 1 if the format's
are. Rows have no padding: the pool has removed it. Source: the async readback guide, "Format-specific
optimization"; WebGPU, section 26.1.
"""


def conversion(format: TextureFormat) -> Convert | None:
    """Return what makes a picture of texels of ``format``; None: they are one."""
    return CONVERTED.get(format.name)


class RenderHandle:
    """A picture on its way home: (height, width, 4) of uint8, or what the format of its texture has.

    ``convert`` makes the picture of what was read, once, on the thread that takes it; a coroutine has a
    worker do it where the picture is larger than 64 KiB. Every call returns the same array.

    Thread-safety: any thread.
    """

    def __init__(self, handle: ReadbackHandle, convert: Convert | None = None) -> None:
        self._handle = handle
        self._convert = convert
        self._picture: NDArray[Any] | None = None
        self._lock = threading.Lock()

    @property
    def is_complete(self) -> bool:
        """Whether the picture is there; never blocks."""
        return self._handle.is_complete

    async def wait(self) -> NDArray[Any]:
        """Return the picture, without blocking the running loop."""
        texels = await self._handle
        if self._convert is None or self._picture is not None or texels.nbytes <= INLINE_BYTES:
            return self._finish(texels)
        return await aside(CREW, lambda: self._finish(texels))

    def result(self, timeout: float | None = None) -> NDArray[Any]:
        """Return the picture, blocking the calling thread."""
        return self._finish(self._handle.wait(timeout))

    def try_get(self) -> NDArray[Any] | None:
        """Return the picture, or None while it is not complete."""
        texels = self._handle.try_get()
        return None if texels is None else self._finish(texels)

    def cancel(self) -> None:
        """Give the picture up."""
        self._handle.cancel()

    def __await__(self) -> Generator[Any, None, NDArray[Any]]:
        return self.wait().__await__()

    def __repr__(self) -> str:
        return line("picture on its way", repr(self._handle)[1:-1])

    def _finish(self, texels: NDArray[Any]) -> NDArray[Any]:
        if self._convert is None:
            return texels
        with self._lock:
            if self._picture is None:
                self._picture = self._convert(texels)
            return self._picture
