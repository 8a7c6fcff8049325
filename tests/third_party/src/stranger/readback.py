"""The readback pool."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from forge3d_core.errors import Busy, Cancelled, Closed, FenceTimeout, ForeignObject, StateError
from forge3d_core.protocols import AsyncReadbackConfig, ReadbackStats
from stranger.clock import Deadline
from stranger.handle import Handle, Lease, Read, Stream
from stranger.lent import Lent
from stranger.memory import Memory, Store
from stranger.region import Region, region_of
from stranger.shield import heed, shielded, wait_for
from stranger.timeline import Point


@shielded
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

    async def read_async(self, source: Any, *, after: Iterable[Point] = (), **region: Any) -> Handle:
        if self.config.backpressure != "wait":
            return self.read(source, after=after, **region)
        waits, deadline = 0, Deadline(self.config.timeout)
        while (handle := self.start(source, after, region, "refuse")) is None:
            self.count(waits=not waits)
            waits += 1
            if not deadline.left():
                raise FenceTimeout(f"no block came free in {self.config.timeout} s on lane {self.lane!r}")
            await asyncio.sleep(0.002)  # a look now and then is enough for a stranger
        return handle

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
                    _wake(read)
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
                self.settle(read, Deadline(None))
                self.take(read)
            finally:
                self.device.give_back(block.reservation, [point])
        return Handle(self, read)

    def settle(self, read: Read, deadline: Deadline) -> None:
        """Wait for the device, or until the read is given up, and note a failure."""
        if not read.watched:
            read.point.on_done(lambda *_: self.wake())
            read.watched = True
        timeline = read.point.timeline
        try:
            with self._changed:
                wait_for(
                    self._changed,
                    lambda: read.state != "flying" or read.point.done or timeline.failure is not None,
                    deadline.timeout,
                )
                if read.state != "flying":
                    return
            read.point.wait(0)
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
            block = read.block
            lent = Lent(block.data[: read.region.nbytes], False, lambda: returns.append(read))

            def end() -> None:
                block.reached = not lent.end()

            return Lease(lent.array(read.region.dtype, read.region.shape), end)

    def cancel(self, read: Read) -> None:
        with self._changed:
            if read.state == "flying":
                read.state = "cancelled"
                self.count(cancelled=1)
                _wake(read)
                if read.point.done:
                    self._let_go(read)
                self._changed.notify_all()

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
        deadline = Deadline(self.config.timeout)
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
                own: Store = self.device.take(nbytes, "buffer", "host_visible")
                return own
            left = deadline.left(0.05)
            if left <= 0:
                raise FenceTimeout(f"no block came free in {self.config.timeout} s on lane {self.lane!r}")
            failure = self.device.lanes[self.lane].timeline.failure
            if oldest is not None and failure is not None:
                oldest.point.wait(0)
            if oldest is not None:
                oldest.point.on_done(lambda *_: self.wake())
            self._changed.wait(left)
            heed()

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
            if block.reached:
                block.renew()
            self._idle.append(block)
        self._changed.notify_all()

    def _check(self) -> None:
        self.device.check()
        if self.closed:
            raise Closed("the readback pool was closed")


def _wake(read: Read) -> None:
    for wake in list(read.awaiting):
        wake()


def _reclaimer(pool: Pool) -> Callable[[int], int]:
    reference = weakref.ref(pool)

    def reclaim(nbytes: int) -> int:
        alive = reference()
        return 0 if alive is None else alive.reclaim(nbytes)

    return reclaim
