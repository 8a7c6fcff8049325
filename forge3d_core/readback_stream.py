"""A reader that wants only the latest frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from numpy.typing import NDArray

from forge3d_core import protocols
from forge3d_core.protocols import FencePoint
from forge3d_core.readback_handle import Handle


class StreamHost(Protocol):
    """What a stream needs of its pool."""

    def try_read(
        self, source: protocols.Buffer | protocols.Texture, after: Iterable[FencePoint], **region: Any
    ) -> Handle | None: ...

    def drop_frame(self) -> None: ...


class Stream:
    """See :class:`forge3d_core.protocols.ReadbackStream`."""

    def __init__(
        self, pool: StreamHost, source: protocols.Buffer | protocols.Texture, region: dict[str, Any]
    ) -> None:
        self._pool = pool
        self._source = source
        self._region = region
        self._frames: deque[Handle] = deque()
        self._dropped = 0

    @property
    def dropped_frames(self) -> int:
        return self._dropped

    def push(self, after: Iterable[FencePoint] = ()) -> bool:
        handle = self._pool.try_read(self._source, after, **self._region)
        if handle is None:
            self._drop()
            return False
        self._frames.append(handle)
        return True

    def latest(self) -> NDArray[Any] | None:
        landed = [handle for handle in self._frames if handle.is_complete]
        if not landed:
            return None
        newest = landed[-1]
        while self._frames[0] is not newest:
            self._frames.popleft().cancel()
            self._drop()
        self._frames.popleft()
        return newest.wait()

    def close(self) -> None:
        while self._frames:
            self._frames.popleft().cancel()

    def _drop(self) -> None:
        self._dropped += 1
        self._pool.drop_frame()
