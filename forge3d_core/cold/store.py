"""A store of what goes cold: by age, when the device has no more memory, and when asked to."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self, Unpack

import attrs
import numpy as np

from forge3d_core.arguments import keywords, real
from forge3d_core.cold.codec import codec_of
from forge3d_core.cold.pieces import PART, BufferPieces, Pieces, TexturePieces
from forge3d_core.cold.resource import ColdBuffer, ColdResource, ColdTexture, T
from forge3d_core.errors import Closed
from forge3d_core.formats import TextureShape, texture_format
from forge3d_core.memory.reclaimers import when_short
from forge3d_core.presentation import Figures, line, no_copy
from forge3d_core.protocols import Device, TextureExtent, TextureFormat
from forge3d_core.units import format_bytes, parse_bytes


@attrs.frozen
class ColdStats(Figures):
    """A snapshot of a store; sizes in bytes, counts since it was made."""

    warm: int
    warm_bytes: int  # of device memory, without the driver's rounding
    cold: int
    cold_bytes: int  # as they were on the device
    compressed_bytes: int  # of host memory that they take now
    chills: int  # moves to the host
    warmings: int  # moves to the device

    @property
    def ratio(self) -> float:
        """How many times smaller than on the device what is cold is; 1 where nothing is."""
        return self.cold_bytes / self.compressed_bytes if self.compressed_bytes else 1.0

    def __repr__(self) -> str:
        return line(
            f"cold store stats: {self.warm} warm of {format_bytes(self.warm_bytes)}",
            f"{self.cold} cold of {format_bytes(self.cold_bytes)} in {format_bytes(self.compressed_bytes)}",
        )


class ColdStore:
    """Buffers and textures that rest in compressed host memory, the same bytes when they come back.

    Contract
        Either is on the device while it is used, and is brought back by ``use``. It goes to the host when
        nothing has used it for ``max_age`` seconds (seen when any use ends, and by ``chill_old``), when the
        device has no more memory, those used longest ago first, and by its own ``chill``. One in use stays.
        While it is cold the device's budget counts nothing for it; what it takes on the host is the process's
        own memory, counted by ``stats``.

    ``codec`` is ``zlib``, or ``lz4`` or ``zstd`` where they are installed. A store keeps a ring and a
    readback pool of 2 MiB each. Thread-safety: any thread.
    """

    def __init__(
        self,
        device: Device,
        *,
        codec: str = "zlib",
        max_age: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.device = device
        self.now = clock
        self._codec = codec_of(codec)
        self._max_age = None if max_age is None else real("max_age", max_age)
        self._buffers: weakref.WeakSet[ColdResource[Any]] = weakref.WeakSet()
        self._chills = self._warmings = 0
        self._lock = threading.Lock()
        self._own = ExitStack()
        self._ring = self._own.enter_context(device.staging_ring(ring_count=2, buffer_size=PART))
        self._pool = self._own.enter_context(device.readback_pool(max_pending_ops=2, buffer_size=PART))
        self._closed = False
        self._forget = when_short(device.budget, self.chill)

    def create(self, nbytes: int | str) -> ColdBuffer:
        """Return a zeroed buffer of the store. Raises :class:`Closed`, and as ``create_buffer`` does."""
        if self._closed:
            raise Closed("this cold store was closed; make another")
        pieces = BufferPieces(parse_bytes(nbytes))
        made = ColdBuffer(self, pieces, pieces.make(self.device))
        with self._lock:
            self._buffers.add(made)
        return made

    def create_texture(
        self,
        width: int,
        height: int,
        format: TextureFormat | str = "rgba8unorm",
        **extent: Unpack[TextureExtent],
    ) -> ColdTexture:
        """Return a zeroed texture of the store, of colours, plain or compressed.

        Raises :class:`Closed`, :class:`UsageError` for depths and for several samples, which copies do not
        bring back, and as ``create_texture`` of the device does.
        """
        if self._closed:
            raise Closed("this cold store was closed; make another")
        keywords("create_texture", extent, TextureExtent.__annotations__)
        pieces = TexturePieces(TextureShape(width, height, **extent), texture_format(format))
        made = ColdTexture(self, pieces, pieces.make(self.device))
        with self._lock:
            self._buffers.add(made)
        return made

    def chill_old(self, older_than: float | None = None) -> int:
        """Move to the host what was not used for ``older_than`` seconds (default: ``max_age``).

        Return how many bytes of the device that gave back.
        """
        age = self._max_age if older_than is None else real("older_than", older_than)
        if age is None:
            return 0
        before = self.now() - age
        return sum(buffer.try_chill() for buffer in self._oldest() if buffer.last_used <= before)

    def chill(self, nbytes: int | str) -> int:
        """Move to the host what was used longest ago, until ``nbytes`` of the device came back."""
        wanted, given = parse_bytes(nbytes), 0
        for buffer in self._oldest():
            if given >= wanted:
                break
            given += buffer.try_chill()
        return given

    def stats(self) -> ColdStats:
        """Return its figures; works after close."""
        buffers = self._oldest()
        cold = [buffer for buffer in buffers if buffer.cold]
        warm = [buffer for buffer in buffers if not (buffer.cold or buffer.closed)]
        return ColdStats(
            warm=len(warm),
            warm_bytes=sum(buffer.nbytes for buffer in warm),
            cold=len(cold),
            cold_bytes=sum(buffer.nbytes for buffer in cold),
            compressed_bytes=sum(buffer.host_bytes for buffer in cold),
            chills=self._chills,
            warmings=self._warmings,
        )

    def close(self) -> None:
        """Close all that is of the store; idempotent."""
        self._closed = True
        self._forget()
        for buffer in self._oldest():
            buffer.close()
        self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    __reduce_ex__ = no_copy

    def __repr__(self) -> str:
        return line(f"cold store of {len(self._buffers)} resources", "closed" if self._closed else "")

    def compressed(self, pieces: Pieces[Any], content: Any) -> tuple[bytes, ...]:
        """Return the bytes of a resource, compressed piece by piece, the next being read meanwhile."""
        reads = pieces.read(self._pool, content)
        parts: list[bytes] = []
        ahead = next(reads, None)
        while ahead is not None:
            handle, ahead = ahead, next(reads, None)
            parts.append(self._codec.compress(np.ascontiguousarray(handle.wait()).data))
        return tuple(parts)

    def restored(self, pieces: Pieces[T], parts: tuple[bytes, ...]) -> T:
        """Return a resource with the bytes that parts are made of; the device orders what uses it."""
        content = pieces.make(self.device)
        try:
            for index, part in enumerate(parts):
                pieces.write(self._ring, content, index, self._codec.decompress(part))
        except BaseException:
            content.close()
            raise
        return content

    def settle(self) -> None:
        """Chill what is too old; called after each use."""
        if not self._closed:
            self.chill_old()

    def chilled(self) -> None:
        """Count a move to the host."""
        with self._lock:
            self._chills += 1

    def warmed(self) -> None:
        """Count a move to the device."""
        with self._lock:
            self._warmings += 1

    def _oldest(self) -> list[ColdResource[Any]]:
        with self._lock:
            return sorted(self._buffers, key=lambda buffer: buffer.last_used)
