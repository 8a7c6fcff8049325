"""The readback pool."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any

import attrs
import numpy as np

from forge3d_core.errors import Busy, Cancelled, Closed, FenceTimeout, ForeignObject, StateError, UsageError
from forge3d_core.protocols import AsyncReadbackConfig, ReadbackStats
from stranger.lent import Lent, plain
from stranger.memory import Buffer, Memory, Store
from stranger.timeline import Point


@attrs.frozen(eq=False)
class Region:
    """What is read, and the array that it becomes."""

    source: Memory
    dtype: Any
    shape: tuple[int, ...]
    nbytes: int
    copy: Callable[[Any], None]  # to the first nbytes of a block
    out: Any

    def array(self) -> Any:
        return np.empty(self.shape, self.dtype) if self.out is None else self.out


def region_of(
    source: Any,
    offset: int = 0,
    nbytes: int | None = None,
    dtype: Any = None,
    shape: int | tuple[int, ...] | None = None,
    origin: tuple[int, int] = (0, 0),
    size: tuple[int, int] | None = None,
    out: Any = None,
) -> Region:
    wanted = (shape,) if isinstance(shape, int) else shape
    if wanted is not None and (not isinstance(wanted, tuple) or any(n < 0 for n in wanted)):
        raise UsageError(f"{shape!r} is not a shape")
    if isinstance(source, Buffer):
        if tuple(origin) != (0, 0) or size is not None:
            raise UsageError("origin and size are for textures")
        item = plain(np.uint8 if dtype is None else dtype)
        if nbytes is None:
            full = max(0, source.nbytes - offset)
            nbytes = full if wanted is None else item.itemsize * int(np.prod(wanted, dtype=np.int64))
        source.region(offset, nbytes)
        if nbytes % item.itemsize:
            raise UsageError(f"{nbytes} bytes are not a whole number of {item}")
        wanted = (nbytes // item.itemsize,) if wanted is None else wanted
        here = source.bytes(offset, nbytes)
    else:
        if offset or nbytes is not None:
            raise UsageError("offset and nbytes are for buffers")
        size = (source.width - origin[0], source.height - origin[1]) if size is None else size
        source.region(origin, size)
        item = plain(dtype if dtype is not None else source.format.dtype or np.uint8)
        if source.format.block_bytes % item.itemsize:
            raise UsageError(f"a texel of {source.format.name} is not a whole number of {item}")
        channels = source.format.block_bytes // item.itemsize
        natural = (size[1], size[0]) if channels == 1 else (size[1], size[0], channels)
        if wanted is not None and wanted != natural:
            raise UsageError(f"this read has the shape {natural}, not {wanted}")
        wanted, nbytes = natural, size[0] * size[1] * source.format.block_bytes
        here = source.texels(origin, size)
    if item.itemsize * int(np.prod(wanted, dtype=np.int64)) != nbytes:
        raise UsageError(f"{nbytes} bytes are not {item} of shape {wanted}")
    if out is not None:
        if not isinstance(out, np.ndarray):
            raise UsageError(f"out is a numpy array, not {type(out).__name__}")
        plain(out.dtype)
        if not (out.flags.c_contiguous and out.flags.writeable) or out.nbytes != nbytes:
            raise UsageError(f"out must be writable, C-contiguous and of {nbytes} bytes")
    there = here.shape

    def copy(block: Any) -> None:
        np.copyto(block[: here.nbytes].reshape(there), here)

    return Region(source, item, wanted, nbytes, copy, out)


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


class Handle:
    def __init__(self, pool: Pool, read: Read) -> None:
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
            self._pool.settle(self._read, timeout)
        return self._pool.take(self._read)

    def try_get(self) -> Any:
        failed = self._read.point.timeline.failure is not None
        if self.is_complete or self._read.state == "cancelled" or failed:
            return self.wait(0)
        return None

    def lease(self, timeout: float | None = None) -> Lease:
        if self._read.state == "flying":
            self._pool.settle(self._read, timeout)
        return self._pool.lease(self._read)

    def cancel(self) -> None:
        self._pool.cancel(self._read)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._awaited().__await__()

    async def _awaited(self) -> Any:
        if self._read.state == "flying":
            await self._read.point._settled()
        return await asyncio.to_thread(self.wait)


class Stream:
    def __init__(self, pool: Pool, source: Any, region: dict[str, Any]) -> None:
        self._pool, self._source, self._region = pool, source, region
        self._frames: deque[Handle] = deque()
        self.dropped_frames = 0

    def push(self, after: Iterable[Point] = ()) -> bool:
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
        while self._frames:
            self._frames.popleft().cancel()

    def _drop(self) -> None:
        self.dropped_frames += 1
        self._pool.count(dropped_frames=1)


class Pool:
    def __init__(self, device: Any, config: AsyncReadbackConfig, lane: str) -> None:
        self.device, self.config, self.lane = device, config, lane
        self.closed = False
        self.dropped: deque[Read] = deque()  # left by the garbage collector
        self.unleased: deque[Read] = deque()  # likewise: no array shows the block any more
        self._depth = config.max_pending_ops if config.double_buffered else 1
        self._changed = threading.Condition(threading.RLock())
        self._idle: list[Store] = []
        self._blocks: list[Store] = []
        self._holding: list[Read] = []  # oldest first
        self._counts = dict.fromkeys(
            ("total", "completed", "cancelled", "failed", "dropped_frames", "bytes", "allocations", "waits"),
            0,
        )
        self._seconds = 0.0
        weakref.finalize(self, device.collected.extend, self._blocks).atexit = False
        self._unreclaim: Callable[[], None] = lambda: None
        try:
            for _ in range(self._depth if config.pre_allocate else 0):
                self._idle.append(self._new_block(config.buffer_size))
        except BaseException:
            self.close()
            raise
        # only now, or the last of the blocks would be made of the first
        self._unreclaim = device.budget.add_reclaimer(_reclaimer(self))

    def read(self, source: Any, *, after: Iterable[Point] = (), **region: Any) -> Handle:
        handle = self.start(source, after, region, self.config.backpressure)
        assert handle is not None
        return handle

    async def read_async(self, source: Any, **region: Any) -> Handle:
        return await asyncio.to_thread(self.read, source, **region)

    def stream(self, source: Any, **region: Any) -> Stream:
        self._check()
        return Stream(self, source, region)

    def stats(self) -> ReadbackStats:
        with self._changed:
            self._tidy()
            counts = self._counts
            return ReadbackStats(
                total_operations=counts["total"],
                completed_operations=counts["completed"],
                pending_operations=len(self._holding),
                cancelled_operations=counts["cancelled"],
                failed_operations=counts["failed"],
                dropped_frames=counts["dropped_frames"],
                average_time_ms=1e3 * self._seconds / max(1, counts["completed"]),
                bytes_read=counts["bytes"],
                block_allocations=counts["allocations"],
                blocks=len(self._blocks),
                block_bytes=sum(block.data.nbytes for block in self._blocks),
                waits=counts["waits"],
            )

    def close(self) -> None:
        self._end("cancelled")

    def abandon(self) -> None:
        """End with the device, whose timelines say why."""
        self._end("failed")

    def _end(self, state: str) -> None:
        with self._changed:
            if self.closed:
                return
            self.closed = True
            self._unreclaim()
            for read in [r for r in self._holding if r.state == "flying"]:
                if read.point.done:
                    self._land(read)  # it is complete, and keeps what it has
                else:
                    read.state = state
                    self._counts[state] += 1
            for block in self._blocks:
                self.device.give_back(block.reservation, block.users())
            self._blocks.clear()
            self._idle.clear()
            self._changed.notify_all()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    def start(self, source: Any, after: Iterable[Point], given: dict[str, Any], policy: str) -> Handle | None:
        """Start a read; None where ``policy`` is to refuse and there is no room."""
        self._check()
        if not isinstance(source, Memory):
            raise ForeignObject(f"{source!r} is not memory of this device")
        source.check(self.device)
        region = region_of(source, **given)
        with self._changed:
            if not region.nbytes:
                self.count(total=1, completed=1)
                read = Read(region, self.device.idle_point(self.lane), None, state="landed")
                read.result = region.array()
                return Handle(self, read)
            block = self._room(region.nbytes, policy)
            if block is None:
                return None
            own = block not in self._blocks  # a degraded read has a block of its own
            try:
                point = self._submit(region, block, after)
            except BaseException:
                if own:
                    self.device.give_back(block.reservation, [])
                else:
                    self._idle.append(block)
                raise
            read = Read(region, point, block)
            self.count(total=1)
            if not own:
                self._holding.append(read)
        if own:
            try:
                self.settle(read, None)
                self.take(read)
            finally:
                self.device.give_back(block.reservation, [point])
        return Handle(self, read)

    def settle(self, read: Read, timeout: float | None) -> None:
        """Wait for the device, and note a failure."""
        try:
            read.point.wait(timeout)
        except FenceTimeout:
            raise
        except Exception:
            with self._changed:
                if read.state == "flying":
                    read.state = "failed"
                    self.count(failed=1)
            raise

    def take(self, read: Read) -> Any:
        """Return the owned array of a read whose point is complete."""
        with self._changed:
            if read.state == "flying":
                self._land(read)
            if read.state == "leased" and read.result is None:
                read.result = self._copied(read)
            if read.result is not None:
                return read.result
        if read.state == "cancelled":
            raise Cancelled("this read was cancelled before its bytes were taken")
        if read.state == "failed":
            read.point.wait(0)
        raise StateError("the bytes of this read were leased, and the lease was released")

    def lease(self, read: Read) -> Lease:
        with self._changed:
            if read.state == "leased":
                raise StateError("this read is leased already")
            if read.state != "flying":
                array = self.take(read).view()
                array.flags.writeable = False
                return Lease(array, lambda: None)
            read.state = "leased"
            self._landed(read)
            assert read.block is not None
            returns = self.unleased
            lent = Lent(read.block.data[: read.region.nbytes], False, lambda: returns.append(read))
            return Lease(lent.array(read.region.dtype, read.region.shape), lent.empty)

    def cancel(self, read: Read) -> None:
        with self._changed:
            if read.state == "flying":
                read.state = "cancelled"
                self.count(cancelled=1)
                if read.point.done:
                    self._let_go(read)

    def count(self, **more: int) -> None:
        with self._changed:
            for name, number in more.items():
                self._counts[name] += number

    def _submit(self, region: Region, block: Store, after: Iterable[Point]) -> Point:
        point: Point = self.device.run(
            self.lane, [lambda: region.copy(block.data)], [region.source], [], after
        )
        block.writer = point
        return point

    def _room(self, nbytes: int, policy: str) -> Store | None:
        deadline = None if self.config.timeout is None else time.monotonic() + self.config.timeout
        waited = False
        while True:
            self._check()
            self._tidy()
            while len(self._holding) >= self._depth and (oldest := self._movable()) and oldest.point.done:
                self._land(oldest)
            if len(self._holding) < self._depth:
                return self._block(nbytes)
            if policy == "refuse":
                return None
            self._counts["waits"] += not waited
            waited = True
            if policy == "raise":
                raise Busy(f"{len(self._holding)} reads are pending, as many as this pool allows; take one")
            if policy == "degrade":
                return self.device.take(nbytes, "buffer", "host_visible")
            left = 0.05 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise FenceTimeout(f"no block came free in {self.config.timeout} s on lane {self.lane!r}")
            failure = self.device.lanes[self.lane].timeline.failure
            if oldest is not None and failure is not None:
                oldest.point.wait(0)
            if oldest is not None:
                oldest.point.on_done(lambda *_: self.wake())
            self._changed.wait(min(left, 0.05))

    def _movable(self) -> Read | None:
        return next((read for read in self._holding if read.state != "leased"), None)

    def _block(self, nbytes: int) -> Store:
        fitting = [block for block in self._idle if block.data.nbytes >= nbytes]
        if fitting:
            block = min(fitting, key=lambda idle: idle.data.nbytes)
            self._idle.remove(block)
            return block
        if self._idle and len(self._blocks) >= self._depth:
            self._release(self._idle.pop(0))
        return self._new_block(max(nbytes, self.config.buffer_size))

    def _new_block(self, nbytes: int) -> Store:
        block: Store = self.device.take(nbytes, "buffer", "host_visible")
        self._blocks.append(block)
        self._counts["allocations"] += 1
        return block

    def _release(self, block: Store) -> None:
        self._blocks.remove(block)
        self.device.give_back(block.reservation, block.users())

    def reclaim(self, nbytes: int) -> int:
        if not self._changed.acquire(blocking=False):
            return 0  # busy, perhaps asking for memory itself and waiting for the asker's pool
        try:
            given = 0
            while given < nbytes and self._idle:
                block = self._idle.pop()
                given += block.data.nbytes
                self._release(block)
            return given
        finally:
            self._changed.release()

    def _tidy(self) -> None:
        """Take note of handles and leases that the collector found, and of cancelled reads that are over."""
        while self.dropped:
            self.cancel(self.dropped.popleft())
        while self.unleased:
            read = self.unleased.popleft()
            read.state = "spent"
            self._let_go(read)
        for read in [r for r in self._holding if r.state == "cancelled" and r.point.done]:
            self._let_go(read)

    def _land(self, read: Read) -> None:
        if read.state == "flying":
            read.result = self._copied(read)
            read.state = "landed"
            self._landed(read)
        self._let_go(read)

    def _landed(self, read: Read) -> None:
        self.count(completed=1, bytes=read.region.nbytes)
        self._seconds += time.perf_counter() - read.started

    def _copied(self, read: Read) -> Any:
        assert read.block is not None
        array = read.region.array()
        np.copyto(array.reshape(-1).view(np.uint8), read.block.data[: read.region.nbytes])
        return array

    def _let_go(self, read: Read) -> None:
        block, read.block = read.block, None
        if read in self._holding:
            self._holding.remove(read)
        if block is not None and block in self._blocks:
            self._idle.append(block)
        self._changed.notify_all()

    def _check(self) -> None:
        self.device.check()
        if self.closed:
            raise Closed("the readback pool was closed")


def _reclaimer(pool: Pool) -> Callable[[int], int]:
    reference = weakref.ref(pool)

    def reclaim(nbytes: int) -> int:
        alive = reference()
        return 0 if alive is None else alive.reclaim(nbytes)

    return reclaim
