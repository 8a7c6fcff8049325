"""One read as its caller holds it: a handle, a lease, or a stream of handles."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any

import attrs

from forge3d_core.errors import Closed, StateError
from stranger.clock import Deadline
from stranger.memory import Store
from stranger.region import Region
from stranger.shield import shielded
from stranger.timeline import Point


@shielded
class Lease:
    def __init__(self, array: Any, end: Callable[[], None]) -> None:
        self._array, self._end = array, end

    @property
    def array(self) -> Any:
        if self._array is None:
            raise StateError("the lease was released")
        return self._array

    def release(self) -> None:
        if self._array is not None:
            self._array = None
            self._end()

    def __enter__(self) -> Any:
        return self.array

    def __exit__(self, *_exc: object) -> None:
        self.release()


@attrs.define(eq=False)
class Read:
    """One read; ``state`` changes under the pool's lock."""

    region: Region
    point: Point
    block: Store | None
    started: float = attrs.field(factory=time.perf_counter)
    state: str = "flying"  # landed, leased, spent, cancelled, failed
    result: Any = None
    watched: bool = False  # whether the point tells the pool when it is settled
    awaiting: list[Callable[[], None]] = attrs.field(factory=list)  # coroutines that a cancel wakes


@shielded
class Handle:
    def __init__(self, pool: Any, read: Read) -> None:
        self._pool, self._read = pool, read
        weakref.finalize(self, pool.dropped.append, read).atexit = False

    @property
    def is_complete(self) -> bool:
        return self._read.state in ("landed", "leased") or self._read.point.done

    @property
    def point(self) -> Point:
        return self._read.point

    def wait(self, timeout: float | None = None) -> Any:
        if self._read.state == "flying":
            self._pool.settle(self._read, Deadline(timeout))
        return self._pool.take(self._read)

    def try_get(self) -> Any:
        failed = self._read.point.timeline.failure is not None
        if self.is_complete or self._read.state == "cancelled" or failed:
            return self.wait(0)
        return None

    def lease(self, timeout: float | None = None) -> Lease:
        if self._read.state == "flying":
            self._pool.settle(self._read, Deadline(timeout))
        lease: Lease = self._pool.lease(self._read)
        return lease

    def cancel(self) -> None:
        self._pool.cancel(self._read)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._awaited().__await__()

    async def _awaited(self) -> Any:
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def wake(*_: object) -> None:
            try:
                loop.call_soon_threadsafe(over.set)
            except RuntimeError:
                pass  # the loop is gone, and whoever awaited with it

        if self._read.state == "flying":
            self._read.awaiting.append(wake)
            self._read.point.on_done(wake)
            if self._read.state == "flying":  # or it was cancelled before the cancel could know of this
                await over.wait()
            self._read.awaiting.remove(wake)
        return self.wait()


@shielded
class Stream:
    def __init__(self, pool: Any, source: Any, region: dict[str, Any]) -> None:
        self._pool, self._source, self._region = pool, source, region
        self._frames: deque[Handle] = deque()
        self.dropped_frames = 0
        self._closed = False

    def push(self, after: Iterable[Point] = ()) -> bool:
        if self._closed:
            raise Closed("this stream was closed; ask the pool for another")
        handle = self._pool.start(self._source, after, self._region, "refuse")
        if handle is None:
            self._drop()
            return False
        self._frames.append(handle)
        return True

    def latest(self) -> Any:
        landed = [frame for frame in self._frames if frame.is_complete]
        if not landed:
            return None
        while (oldest := self._frames.popleft()) is not landed[-1]:
            oldest.cancel()
            self._drop()
        return oldest.wait()

    def close(self) -> None:
        self._closed = True
        while self._frames:
            self._frames.popleft().cancel()

    def _drop(self) -> None:
        self.dropped_frames += 1
        self._pool.count(dropped_frames=1)
