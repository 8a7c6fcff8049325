"""The readback pool, once for all backends: blocks lent to reads, landed in owned arrays, lent again."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, Self, Unpack, cast

from numpy.typing import NDArray

from forge3d_core import protocols
from forge3d_core.arguments import keywords, shown
from forge3d_core.deadline import NEVER, Deadline
from forge3d_core.driver import Command
from forge3d_core.errors import Busy, Closed, FenceTimeout
from forge3d_core.lifetime.hold import Users, note, strike
from forge3d_core.lifetime.teardown import Turn
from forge3d_core.memory.allocator import Allocation, Allocator
from forge3d_core.memory.copying import HostCopier
from forge3d_core.presentation import line, presents
from forge3d_core.protocols import (
    AsyncReadbackConfig,
    FencePoint,
    Limits,
    ReadArguments,
    ReadbackStats,
    ReadRegion,
)
from forge3d_core.readback.blocks import CLOSED, Blocks, Promise
from forge3d_core.readback.coroutines import read as read_async
from forge3d_core.readback.counts import Counts
from forge3d_core.readback.handle import Handle, Operation
from forge3d_core.readback.line import Line
from forge3d_core.readback.region import Region
from forge3d_core.readback.stream import Stream
from forge3d_core.units import format_bytes

LOOK_SECONDS = 0.05
"""How often a wait for a leased block looks up, for a loss or a close that nobody announced."""


class PoolHost(Protocol):
    """What a pool needs of its device."""

    allocator: Allocator
    copier: HostCopier

    @property
    def limits(self) -> Limits: ...

    def check(self) -> None: ...

    def submit_commands(
        self,
        lane: str,
        commands: list[Command],
        reads: list[Allocation],
        writes: list[Allocation],
        after: Iterable[FencePoint] = (),
    ) -> FencePoint: ...

    def idle_point(self, lane: str) -> FencePoint: ...


@presents(protocols.ReadbackPool)
class Pool:
    """See :class:`forge3d_core.protocols.ReadbackPool`.

    A read holds a block from its submission until its bytes have *landed*: until somebody takes them
    or a later read needs the block and moves them out, which gives the same array to whoever asks
    afterwards. So a caller may start any number of reads before taking the first, and the bound on
    blocks holds all the same.
    """

    def __init__(self, host: PoolHost, config: AsyncReadbackConfig, lane: str) -> None:
        self.config = config
        self.lane = lane
        self._host = host
        self._depth = config.max_pending_ops if config.double_buffered else 1
        self._lock = threading.RLock()  # C, so that no interrupt comes between its taking and the block
        self._changed = threading.Condition(self._lock)
        self._blocks = Blocks(
            host.allocator, self._depth, config.buffer_size, pre_allocate=config.pre_allocate
        )
        self.line = Line(self._lock)  # coroutines that wait for a block
        self._pending: deque[Operation] = deque()  # that hold a block, oldest first
        self._promised: Users = set()  # blocks, to reads that are not pending yet
        self._counts = Counts()
        self._closed = False
        self._turn = Turn()
        self._give_up: Callable[[Operation], None] = Operation.cancel  # what closing does to a read

    @property
    def closed(self) -> bool:
        return self._closed

    def read(
        self,
        source: protocols.Buffer | protocols.Texture,
        *,
        offset: int = 0,
        nbytes: int | None = None,
        dtype: Any = None,
        shape: int | tuple[int, ...] | None = None,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        out: NDArray[Any] | None = None,
        after: Iterable[FencePoint] = (),
    ) -> Handle:
        region = self._region(source, offset, nbytes, dtype, shape, origin, size, out)
        if not region.nbytes:
            return self._empty(region)
        promise = Promise()
        try:
            if not self._acquire(promise, region.block_bytes):
                return self._synchronously(region, after)
            return self.start(region, promise, after)
        except BaseException:
            promise.block = None  # now, and not when the error is gone
            raise
        finally:
            self.let_go(promise)

    async def read_async(
        self, source: protocols.Buffer | protocols.Texture, **region: Unpack[ReadArguments]
    ) -> Handle:
        keywords("read_async", region, (*ReadRegion.__annotations__, "after"))
        after = region.pop("after", ())
        where = self._region(source, **cast(ReadRegion, region))
        return await read_async(self, where, after) if where.nbytes else self._empty(where)

    def stream(self, source: protocols.Buffer | protocols.Texture, **region: Unpack[ReadRegion]) -> Stream:
        keywords("stream", region, ReadRegion.__annotations__)
        self._region(source, **region)  # now, and not with the first frame
        return Stream(self, source, region)

    def try_read(
        self,
        source: protocols.Buffer | protocols.Texture,
        after: Iterable[FencePoint],
        **region: Unpack[ReadRegion],
    ) -> Handle | None:
        """Start a read if a block is free now; the policy does not matter."""
        where = self._region(source, **region)
        if not where.nbytes:
            return self._empty(where)
        promise = Promise()
        try:
            return (
                self.start(where, promise, after) if self._try_acquire(promise, where.block_bytes) else None
            )
        except BaseException:
            promise.block = None
            raise
        finally:
            self.let_go(promise)

    def drop_frame(self) -> None:
        """Count a frame that a stream gave up."""
        with self._lock:
            self._counts.dropped_frames += 1

    def stats(self) -> ReadbackStats:
        self.collect()
        with self._lock:
            return self._counts.stats(len(self._pending) + len(self._promised), self._blocks)

    def close(self) -> None:
        if not self._host.allocator.forked:  # the parent's to close
            self._turn.run(lambda: self._end(Operation.cancel))

    def abandon(self) -> None:
        """Close, and end the leases too: the device closes, and takes the blocks along.

        What is pending raises what the device's closing or loss made of its point.
        """
        self._end(Operation.fail)
        with self._lock:
            pending = list(self._pending)
        for operation in pending:
            operation.revoke()

    def _end(self, give_up: Callable[[Operation], None]) -> None:
        if self._host.allocator.forked:
            return  # the parent's to close
        with self._lock:
            if self._closed:
                return
            self._closed, self._give_up = True, give_up
            pending = list(self._pending)
            self._changed.notify_all()
            self.line.call_all()
        try:
            for operation in pending:
                if operation.movable and operation.point.done:
                    operation.land()  # it has completed, and keeps what it has
        finally:
            for operation in pending:
                give_up(operation)  # unless it has landed
            self._blocks.close()

    def __repr__(self) -> str:
        return line(
            f"readback pool on lane {shown(self.lane)}: {len(self._pending)} of {self._depth} reads pending",
            f"blocks of {format_bytes(self.config.buffer_size)}",
            "closed" if self._closed else "",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def check(self) -> None:
        """Raise unless the pool and its device are open."""
        self._host.check()
        if self._closed:
            raise Closed(CLOSED)

    def give_back(self, operation: Operation) -> None:
        """Take note that a read has no block any more; once is enough."""
        with self._lock:
            if operation in self._pending:
                self._pending.remove(operation)
                self._changed.notify_all()
                self.line.call()

    def landed(self, nbytes: int, seconds: float) -> None:
        """Count a read whose bytes have landed."""
        with self._lock:
            self._counts.completed += 1
            self._counts.bytes_read += nbytes
            self._counts.seconds += seconds

    def cancelled(self) -> None:
        """Count a read that was given up."""
        with self._lock:
            self._counts.cancelled += 1
            self.line.call()

    def failed(self) -> None:
        """Count a read whose submission failed, or whose bytes could not land."""
        with self._lock:
            self._counts.failed += 1

    def _region(
        self,
        source: protocols.Buffer | protocols.Texture,
        offset: int = 0,
        nbytes: int | None = None,
        dtype: Any = None,
        shape: int | tuple[int, ...] | None = None,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        out: NDArray[Any] | None = None,
    ) -> Region:
        self.check()
        limits = self._host.limits
        region = Region.of(self._host, limits, source, offset, nbytes, dtype, shape, origin, size)
        return region.into(out, typed=dtype is not None)

    def _empty(self, region: Region) -> Handle:
        operation = Operation(self, self._host.copier, region, None, self._host.idle_point(self.lane))
        with self._lock:
            self._counts.total += 1
        operation.land()
        return Handle(operation)

    def start(self, region: Region, promise: Promise, after: Iterable[FencePoint]) -> Handle:
        """Submit a read into the block that was promised to it."""
        block = promise.block
        assert block is not None
        point = self._host.submit_commands(
            self.lane, [region.command(block.native)], [region.allocation], [block], after
        )
        operation = Operation(self, self._host.copier, region, block, point, promise)
        handle = Handle(operation)
        with self._lock:
            self._counts.total += 1
            self._pending.append(operation)
            strike(self._promised, promise)
            closed = self._closed
        if closed:  # in the meantime: who did that has not seen this read, and the block is going
            self._give_up(operation)
        return handle

    def let_go(self, promise: Promise) -> None:
        """Take back what was promised to a read that did not become pending."""
        with self._lock:
            strike(self._promised, promise)
            self._changed.notify_all()
            self.line.call()

    def _acquire(self, promise: Promise, nbytes: int) -> bool:
        """Promise a block under the configured policy; False means degrade to a synchronous read."""
        if self._try_acquire(promise, nbytes):
            return True
        if not self.must_wait():
            return False
        deadline = self.deadline()
        while True:
            self._await_one(deadline)
            if self._try_acquire(promise, nbytes):
                return True

    def _try_acquire(self, promise: Promise, nbytes: int) -> bool:
        """Promise a block if one is free or can be freed without waiting; whether it did."""
        collected = False
        while True:
            claimed, oldest = self.claim(promise, nbytes)
            if claimed:
                return True
            if oldest is not None:
                oldest.land()
            elif collected:
                return False
            else:  # only now: to look at every read that is pending costs more the more there are
                self.collect()
                collected = True

    def claim(self, promise: Promise, nbytes: int) -> tuple[bool, Operation | None]:
        """Promise a block if one is free; else return the read, if any, that makes room when it lands."""
        with self._lock:
            self.check()
            if len(self._pending) + len(self._promised) >= self._depth:
                return False, next((op for op in self._pending if op.movable and op.point.done), None)
            note(self._promised, promise)
        self._blocks.take(promise, nbytes)
        return True, None

    def must_wait(self) -> bool:
        """Count a read that finds no block free. Raises :class:`Busy`; False means read without one."""
        with self._lock:
            self._counts.waits += 1
        if self.config.backpressure == "raise":
            raise Busy(
                f"{self._depth} read(s) are pending, as many as this pool allows; take or cancel one, raise "
                "max_pending_ops, or use backpressure='wait'"
            )
        return self.config.backpressure == "wait"

    def deadline(self) -> Deadline:
        """Return when a wait for a block that begins now ends."""
        return Deadline.after(self.config.timeout)

    def oldest(self) -> Operation | None:
        """Return the read whose block comes free next."""
        with self._lock:
            return next((op for op in self._pending if op.movable), None)

    def late(self, oldest: Operation | None) -> FenceTimeout:
        """Return what a wait for a block ends with when its time is over."""
        return FenceTimeout(
            f"readback pool on lane {self.lane!r}: no block came free in {self.config.timeout} s; "
            f"{len(self._pending)} of {self._depth} reads hold one"
            + ("" if oldest else ", all of them leased: release a lease")
        )

    def _await_one(self, deadline: Deadline) -> None:
        """Wait until something may have become free."""
        with self._lock:
            oldest = self.oldest()
            left = deadline.left(LOOK_SECONDS)
            if left <= 0:
                raise self.late(oldest)
            if oldest is None:
                self._changed.wait(left)
                return
        try:
            oldest.point.wait(left)
        except FenceTimeout:
            pass  # the caller looks for a lease that ended, a cancelled read, a close, and the deadline
        except Exception:
            oldest.fail_if_lost()
            raise

    def _synchronously(self, region: Region, after: Iterable[FencePoint]) -> Handle:
        """Read through a block of its own, and wait."""
        with self._alone(region, after) as operation:
            operation.take(NEVER)
        return Handle(operation)

    async def alone_async(self, region: Region, after: Iterable[FencePoint]) -> Handle:
        """Do that for a coroutine."""
        with self._alone(region, after) as operation:
            await operation.take_async()
        return Handle(operation)

    @contextlib.contextmanager
    def _alone(self, region: Region, after: Iterable[FencePoint]) -> Iterator[Operation]:
        """Start a read through a block of its own, which goes back after the ``with`` block."""
        owned = self._host.allocator.block(region.block_bytes, "readback")
        block = owned.allocation
        try:
            point = self._host.submit_commands(
                self.lane, [region.command(block.native)], [region.allocation], [block], after
            )
            with self._lock:
                self._counts.total += 1
            operation = Operation(self, self._host.copier, region, block, point)
            try:
                yield operation
            except BaseException:
                operation.cancel()  # unless it has failed
                raise
        finally:
            self._host.allocator.release(owned)

    def collect(self) -> None:
        """See what was lost: reads without a handle, leases without an array; take blocks that are over."""
        with self._lock:
            pending = list(self._pending)
        for operation in pending:
            operation.settle()
