"""A reader that wants only the latest frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from numpy.typing import NDArray

from forge3d_core import protocols
from forge3d_core.errors import Closed
from forge3d_core.presentation import counted, line, presents
from forge3d_core.protocols import FencePoint, ReadRequest
from forge3d_core.readback.handle import Handle


class StreamHost(Protocol):
    """What a stream needs of its pool."""

    def try_read(self, request: ReadRequest, after: Iterable[FencePoint]) -> Handle | None: ...

    def drop_frame(self) -> None: ...


@presents(protocols.AsyncReadbackStream)
class Stream:
    """See :class:`forge3d_core.protocols.AsyncReadbackStream`."""

    def __init__(self, pool: StreamHost, request: ReadRequest) -> None:
        self._pool = pool
        self._request = request
        self._frames: deque[Handle] = deque()
        self._dropped = 0
        self._closed = False

    def __repr__(self) -> str:
        return line(
            f"readback stream: {counted(len(self._frames), 'frame')} under way",
            f"{self._dropped} dropped",
            "closed" if self._closed else "",
        )

    @property
    def dropped_frames(self) -> int:
        return self._dropped

    def push(self, after: Iterable[FencePoint] = ()) -> bool:
        if self._closed:
            raise Closed("the readback stream was closed; make another with pool.stream(source)")
        self._pass_over()  # or frames that are not taken would pile up
        handle = self._pool.try_read(self._request, after)
        if handle is None:
            self._drop()
            return False
        self._frames.append(handle)
        return True

    def latest(self) -> NDArray[Any] | None:
        self._pass_over()
        if not self._frames or not self._frames[0].is_complete:
            return None
        return self._frames.popleft().wait()

    async def latest_async(self) -> NDArray[Any] | None:
        self._pass_over()
        if not self._frames or not self._frames[0].is_complete:
            return None
        frame = self._frames.popleft()
        try:
            return await frame.take_async()
        except BaseException:
            if not self._closed:
                self._frames.appendleft(frame)  # for the next call
            raise

    def close(self) -> None:
        self._closed = True
        while self._frames:
            self._frames.popleft().cancel()

    def _pass_over(self) -> None:
        """Drop the frames that landed before the newest that has landed."""
        landed = sum(handle.is_complete for handle in self._frames)
        for _ in range(landed - 1):
            self._frames.popleft().cancel()
            self._drop()

    def _drop(self) -> None:
        self._dropped += 1
        self._pool.drop_frame()
