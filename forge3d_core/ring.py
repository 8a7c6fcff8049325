"""The staging ring, once for all backends: blocks in a circle, each reused only behind its fence."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike

from forge3d_core import protocols
from forge3d_core.allocation import Allocation, Allocator
from forge3d_core.copying import HostCopier
from forge3d_core.driver import Command
from forge3d_core.errors import (
    Closed,
    FenceTimeout,
    ForeignObject,
    ForgeError,
    SliceOutstanding,
    TooLarge,
    UsageError,
    again,
)
from forge3d_core.memory import DeviceBuffer, DeviceTexture
from forge3d_core.protocols import FencePoint, Limits, RingStats
from forge3d_core.ring_block import Block, Circle, Staged, State, failure_before
from forge3d_core.ring_slice import Slice
from forge3d_core.ring_upload import upload_bytes, upload_rows
from forge3d_core.units import align_up, format_bytes
from forge3d_core.views import byte_dtype

MOST_BLOCKS = 8
LOOK_SECONDS = 0.05
"""How often a wait for somebody else's slice looks up, for a loss or a close that nobody announced."""


class RingHost(Protocol):
    """What a ring needs of its device."""

    allocator: Allocator
    copier: HostCopier

    @property
    def limits(self) -> Limits: ...

    def check(self) -> None: ...

    def submit_commands(
        self, lane: str, commands: list[Command], reads: list[Allocation], writes: list[Allocation]
    ) -> FencePoint: ...

    def idle_point(self, lane: str) -> FencePoint: ...


class Ring:
    """See :class:`forge3d_core.protocols.StagingRing`.

    One lock guards the state; what has to be submitted is decided under it and submitted outside it,
    in ring order, by whoever holds the submission lock.
    """

    def __init__(self, host: RingHost, ring_count: int, buffer_size: int, lane: str) -> None:
        if not isinstance(ring_count, int) or not 1 <= ring_count <= MOST_BLOCKS:
            raise UsageError(f"ring_count is 1 to {MOST_BLOCKS}, not {ring_count!r}; 3 is a good choice")
        if buffer_size < 1:
            raise UsageError("a ring's buffer_size is at least 1 byte; '1 MiB' to '4 MiB' suits mixed loads")
        self.ring_count = ring_count
        self.buffer_size = buffer_size
        self.lane = lane
        self.limits = host.limits
        self._host = host
        # Rounded up so that the ragged end of the last slice is inside the block for any API.
        size = align_up(buffer_size, max(host.limits.copy_alignment, 4))
        self._circle = Circle(self, host.allocator, ring_count, size)
        self._blocks = self._circle.blocks
        self._index = 0
        self._sealed: deque[Block] = deque()
        self._slices: weakref.WeakValueDictionary[object, Slice] = weakref.WeakValueDictionary()
        self._queue: deque[object] = deque()  # reserving threads, first come first served
        # Entered as the lock: a condition's own enter is Python, which an interrupt may leave half way.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._submission = threading.Lock()
        self._last: FencePoint | None = None
        self._refused: dict[Allocation, Exception] = {}  # copies that were dropped, and nobody told yet
        self._closed = False
        self._stalls = self._allocated = self._staged = self._submissions = 0
        self.abandoned: deque[tuple[Block, object]] = deque()  # left by the garbage collector

    @property
    def closed(self) -> bool:
        return self._closed

    def allocate(self, nbytes: int) -> Slice | None:
        self._fits(nbytes)
        with self._lock:
            found = self._place(nbytes)
            if found is None:
                self._stalls += 1
        self._flush_with(found)
        return found

    def reserve(self, nbytes: int, timeout: float | None = None) -> Slice:
        self._fits(nbytes)
        deadline = None if timeout is None else time.monotonic() + timeout
        ticket = object()
        stalled = False
        try:
            self._queue.append(ticket)
            while True:
                blocking: FencePoint | None = None
                with self._lock:
                    self.check()
                    if self._queue[0] is ticket:
                        found = self._place(nbytes, eager=True)
                        if found is None:
                            blocking = self._blocks[self._index].point
                            self._own_slices("reserve", self._blocks[self._index])
                    else:
                        found = None
                    if found is None and not stalled:
                        stalled = True
                        self._stalls += 1
                self._flush_with(found)
                if found is not None:
                    return found
                self._wait(blocking, deadline, f"no room for {format_bytes(nbytes)}")
        finally:
            if ticket in self._queue:  # no call of Python code up to here: an interrupt comes after one
                self._queue.remove(ticket)
            with self._lock:
                self._changed.notify_all()

    def advance(self, timeout: float | None = None) -> FencePoint:
        point = self.submit(None if timeout is None else time.monotonic() + timeout)
        self._tell_refused()
        return point

    def submit(self, deadline: float | None) -> FencePoint:
        """Do what ``advance`` does, and leave copies that were refused for others to tell of."""
        self.check()
        with self._lock:
            self._reap()
            current = self._blocks[self._index]
            for block in (*self._sealed, current):
                self._own_slices("advance", block)
            if current.state is State.OPEN and current.cursor:
                self._seal(current)
            awaited = set(self._sealed)
        while True:
            self._flush()
            with self._lock:
                if awaited.isdisjoint(self._sealed):
                    return self._last or self._host.idle_point(self.lane)
            self.check()
            self._wait(None, deadline, "slices of other threads are not committed")

    def upload(
        self,
        data: ArrayLike,
        target: protocols.Buffer | protocols.Texture,
        offset: int = 0,
        *,
        origin: tuple[int, int] = (0, 0),
        timeout: float | None = None,
    ) -> FencePoint:
        self.check()
        array = np.asarray(data)
        byte_dtype(array.dtype)
        with self._lock:
            self._reap()
            for block in self._blocks:
                self._own_slices("upload", block)
        deadline = None if timeout is None else time.monotonic() + timeout
        if isinstance(target, DeviceTexture):
            upload_rows(self, self._host.copier, array, target, offset, origin, deadline)
        elif isinstance(target, DeviceBuffer):
            upload_bytes(self, self._host.copier, array, target, offset, deadline)
        else:
            raise ForeignObject(f"{target!r} is not memory of this device")
        point = self.submit(deadline)
        self._tell_refused(target.allocation)
        return point

    def stats(self) -> RingStats:
        with self._lock:
            self._reap()
            flying = sum(
                block.staged
                for block in self._blocks
                if block.state is State.FENCED and block.point is not None and not block.point.done
            )
            return RingStats(
                ring_count=self.ring_count,
                buffer_size=self.buffer_size,
                current_ring_index=self._index,
                bytes_in_flight=flying,
                buffer_stalls=self._stalls,
                allocations=self._allocated,
                bytes_staged=self._staged,
                submissions=self._submissions,
            )

    def close(self) -> None:
        if self._host.allocator.forked:
            return  # the parent's to close
        with self._lock:
            if self._closed:
                return
            live = list(self._slices.values())
        for one in live:
            one.release()
        try:
            with self._lock:
                current = self._blocks[self._index]
                if current.state is State.OPEN and current.targets:
                    self._seal(current)
            self._flush()
            self._tell_refused()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close without submitting anything, and wake everybody: the device closes or is lost."""
        with self._lock:
            live, self._closed = list(self._slices.values()), True
            self._changed.notify_all()
        for one in live:
            one.revoke()
        self._circle.give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.close()
        except ForgeError:
            if exc_info[0] is None:
                raise
            self.abandon()  # the body failed, perhaps half way through a slice; its error is the one to show

    def check(self) -> None:
        """Raise unless the ring and its device are open."""
        self._host.check()
        if self._closed:
            raise Closed("the staging ring was closed; make another with device.staging_ring()")

    def check_target(self, target: DeviceBuffer | DeviceTexture) -> None:
        """Raise unless ``target`` is open memory of this ring's device."""
        self.check()
        target.check(self._host)
        if (failure := failure_before(target.allocation, self.lane)) is not None:
            raise again(failure)

    def pin(self, target: Allocation, key: object) -> None:
        self._host.allocator.pin([target], key)

    def unpin(self, target: Allocation, key: object) -> None:
        self._host.allocator.unpin([target], key)

    def settle(
        self, block: Block, key: object, staged: Staged | None = None, target: Allocation | None = None
    ) -> None:
        """Take a slice back, with the copy it asks for, if any. What cannot be submitted ``advance`` says."""
        with self._lock:
            block.outstanding.pop(key, None)
            if staged is not None and target is not None:
                block.targets.setdefault(target, []).append(staged)
                target.pins.add(block)
                self._staged += staged.nbytes
            self._changed.notify_all()
        with contextlib.suppress(ForgeError):
            self._flush()

    def _place(self, nbytes: int, *, eager: bool = False) -> Slice | None:
        """Find room under the lock, or None. ``eager``: seal a block that is too full even so."""
        self.check()  # again, under the lock: a ring that is closing lends nothing
        self._reap()
        block = self._blocks[self._index]
        if not self._available(block):
            return None
        start = align_up(block.cursor, self.limits.staging_alignment)
        if start + nbytes > self.buffer_size:
            following = self._blocks[(self._index + 1) % self.ring_count]
            if following is block or not self._available(following):
                if eager:
                    self._seal(block)
                return None
            self._seal(block)
            block, start = following, 0
        block.cursor = start + int(nbytes)
        self._allocated += 1
        found = Slice(self, block, start, int(nbytes))
        block.outstanding[found.key] = threading.current_thread()
        self._slices[found.key] = found
        return found

    def _available(self, block: Block) -> bool:
        if block.state is State.FENCED and not block.in_flight():
            block.reset()
        return block.state is State.OPEN

    def _seal(self, block: Block) -> None:
        block.state = State.SEALED
        self._sealed.append(block)
        self._index = (block.index + 1) % self.ring_count

    def _flush_with(self, found: Slice | None) -> None:
        """Submit what has become due, and give the new slice back where that fails: nobody will see it."""
        try:
            self._flush()
        except BaseException:
            if found is not None:
                found.abandon()
            raise

    def _flush(self) -> None:
        """Submit the sealed blocks whose slices are all committed, in ring order."""
        if not self._sealed:
            return
        with self._submission:
            while True:
                with self._lock:
                    self._reap()
                    block = self._sealed[0] if self._sealed else None
                    if block is None or block.outstanding:
                        return
                point = self._submit(block)
                with self._lock:
                    if point is not None:
                        block.state, block.point = State.FENCED, point
                    else:
                        block.reset()
                    del self._sealed[0]  # no call since the state was set: an interrupt comes after one
                    self._changed.notify_all()

    def _submit(self, block: Block) -> FencePoint | None:
        """Submit what the block holds; what waits for work that has failed is dropped, for that alone.

        Any other error leaves the block as it was: nothing is lost, and the next call tries again.
        """
        while block.targets:
            try:
                point = self._host.submit_commands(
                    self.lane, block.commands, [], [*block.targets, block.allocation]
                )
            except ForgeError:
                if not (refused := block.refuse(self.lane)):
                    raise
                with self._lock:
                    self._refused.update(refused)
            else:
                self._host.allocator.unpin(block.targets, block)
                self._submissions += 1
                self._last = point
                return point
        return None

    def _tell_refused(self, target: Allocation | None = None) -> None:
        """Raise, once, why copies were dropped: of ``target`` alone, or of all."""
        with self._lock:
            told = [target] if target is not None else list(self._refused)
            failures = [failure for each in told if (failure := self._refused.pop(each, None))]
        if failures:
            raise again(failures[0])

    def _reap(self) -> None:
        """Take note of slices that the garbage collector found."""
        while self.abandoned:
            block, key = self.abandoned.popleft()
            block.outstanding.pop(key, None)

    def _own_slices(self, what: str, block: Block) -> None:
        me = threading.current_thread()  # not its number, which a later thread may get again
        mine = sum(thread is me for thread in block.outstanding.values())
        if mine and (block.state is not State.OPEN or what != "reserve"):
            raise SliceOutstanding(
                f"{what}: {mine} slice(s) of this thread in block {block.index} are neither committed nor "
                "released, and waiting for them would never end; commit or release them first"
            )

    def _wait(self, point: FencePoint | None, deadline: float | None, why: str) -> None:
        left = LOOK_SECONDS if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise FenceTimeout(
                f"staging ring on lane {self.lane!r}: {why}, {self.ring_count} block(s) of "
                f"{format_bytes(self.buffer_size)} in flight or being written"
            )
        left = min(left, LOOK_SECONDS)
        if point is not None:
            try:
                point.wait(left)
            except FenceTimeout:
                pass  # the caller looks at its own deadline
            return
        with self._lock:
            self._changed.wait(left)

    def _fits(self, nbytes: int) -> None:
        self.check()
        if not isinstance(nbytes, (int, np.integer)) or nbytes < 1:
            raise UsageError(f"a slice has at least 1 byte, not {nbytes!r}")
        if nbytes > self.buffer_size:
            raise TooLarge(
                f"{format_bytes(nbytes)} never fit in one slice of this ring, whose blocks are "
                f"{format_bytes(self.buffer_size)}; use upload(), which takes any size, or larger blocks"
            )
