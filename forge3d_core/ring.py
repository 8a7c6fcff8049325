"""The staging ring, once for all backends: blocks in a circle, each reused only behind its fence."""

from __future__ import annotations

import enum
import threading
import time
import weakref
from collections import deque
from typing import Any, Protocol, Self

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from forge3d_core import protocols
from forge3d_core.copying import HostCopier
from forge3d_core.driver import Command, Upload, UploadRows
from forge3d_core.errors import (
    Closed,
    FenceTimeout,
    ForeignObject,
    OutOfRange,
    SliceOutstanding,
    SliceSpent,
    TooLarge,
    UsageError,
    ViewHeld,
    again,
)
from forge3d_core.memory import Allocation, Allocator, DeviceBuffer, DeviceTexture
from forge3d_core.protocols import FencePoint, Limits, RingStats
from forge3d_core.units import align_up, format_bytes
from forge3d_core.views import Loan, byte_dtype

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


class _State(enum.Enum):
    OPEN = "open"  # takes slices; a block nobody uses is open and empty
    SEALED = "sealed"  # takes no more, and is submitted once its last slice is committed
    FENCED = "fenced"  # the device reads it


@attrs.define(eq=False)
class Block:
    """One of the ring's blocks."""

    index: int
    allocation: Allocation
    state: _State = _State.OPEN
    cursor: int = 0
    staged: int = 0
    commands: list[Command] = attrs.field(factory=list)
    targets: dict[Allocation, None] = attrs.field(factory=dict)
    outstanding: dict[object, int] = attrs.field(factory=dict)  # slice key -> allocating thread
    point: FencePoint | None = None

    def reset(self) -> None:
        """Take the block back into use, empty."""
        self.state, self.cursor, self.staged, self.point = _State.OPEN, 0, 0, None
        self.commands, self.targets = [], {}

    def in_flight(self) -> bool:
        """Whether the device may still read it. Raises the failure of a lane that will never say."""
        if self.state is not _State.FENCED or self.point is None:
            return False
        if self.point.done:
            return False
        if (failure := self.point.timeline.failure) is not None:
            raise again(failure)
        return True


class Slice:
    """See :class:`forge3d_core.protocols.StagingSlice`."""

    def __init__(self, ring: Ring, block: Block, offset: int, nbytes: int) -> None:
        self.ring_index = block.index
        self.offset = offset
        self.nbytes = nbytes
        self._ring = ring
        self._block = block
        self.key = object()
        holds, abandoned = block.allocation.holds, ring.abandoned

        def gone() -> None:  # a slice that is dropped must not keep its block from being submitted
            abandoned.append((block, key))
            holds.discard(key)

        key = self.key
        holds.add(key)
        self._loan: Loan | None = Loan(self.memory, writable=True, gone=gone)
        self._view: NDArray[np.uint8] | None = None

    @property
    def memory(self) -> NDArray[np.uint8]:
        """The bytes themselves, outside the loan: for copies by the ring's own code."""
        whole: NDArray[np.uint8] = self._block.allocation.native.view()
        return whole[self.offset : self.offset + self.nbytes]

    @property
    def view(self) -> NDArray[np.uint8]:
        loan = self._lent()
        if self._view is None:
            self._view = loan.array()
        return self._view

    def array(self, dtype: Any, shape: int | tuple[int, ...] | None = None) -> NDArray[Any]:
        return self._lent().array(dtype, shape)

    def commit(self, target: protocols.Buffer, offset: int = 0) -> None:
        self._lent()
        if not isinstance(target, DeviceBuffer):
            raise ForeignObject(f"{target!r} is not a buffer of this device; textures take commit_rows")
        self._ring.check_target(target)
        target.region(offset, self.nbytes)
        block = self._block
        self._commit(
            target.allocation,
            Upload(block.allocation.native, self.offset, target.memory, offset, self.nbytes),
        )

    def commit_rows(
        self,
        target: protocols.Texture,
        *,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        row_pitch: int | None = None,
    ) -> None:
        self._lent()
        if not isinstance(target, DeviceTexture):
            raise ForeignObject(f"{target!r} is not a texture of this device; buffers take commit")
        self._ring.check_target(target)
        size = (target.width - origin[0], target.height - origin[1]) if size is None else size
        target.region(origin, size)
        row, alignment = size[0] * target.format.block_bytes, self._ring.limits.row_pitch_alignment
        pitch = align_up(row, alignment) if row_pitch is None else row_pitch
        if pitch < row or pitch % alignment:
            raise UsageError(
                f"row_pitch {pitch} must be a multiple of {alignment} and hold a row of {row} bytes"
            )
        if size[1] and (size[1] - 1) * pitch + row > self.nbytes:
            raise OutOfRange(f"{size[1]} rows of pitch {pitch} do not fit in a slice of {self.nbytes} bytes")
        native = self._block.allocation.native
        self._commit(
            target.allocation,
            UploadRows(native, self.offset, pitch, target.memory, origin, size) if all(size) else None,
        )

    def release(self) -> None:
        if self._loan is not None:
            self._take_back(self._loan)
            self._ring.settle(self._block, self.key, 0, None, None)

    def revoke(self) -> None:
        """Take the memory away because the device closes; derived arrays keep the block alive."""
        loan, self._loan, self._view = self._loan, None, None
        if loan is not None:
            loan.surrender()

    def _commit(self, target: Allocation, command: Command | None) -> None:
        # Closing the target from now on must not take it from under a copy that waits for advance.
        self._ring.pin(target, self.key)
        try:
            self._take_back(self._lent())
            self._ring.settle(self._block, self.key, self.nbytes, command, target)
        finally:
            self._ring.unpin(target, self.key)

    def _take_back(self, loan: Loan) -> None:
        loan.take_back()
        self._loan = self._view = None
        self._block.allocation.holds.discard(self.key)

    def _lent(self) -> Loan:
        self._ring.check()
        if self._loan is None:
            raise SliceSpent(
                "this slice was committed or released; its memory belongs to the device now, allocate another"
            )
        return self._loan


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
        self._blocks: list[Block] = []
        self._allocations: list[Allocation] = []
        self._finalizer = weakref.finalize(self, _drop_all, host.allocator, self._allocations, self._blocks)
        self._finalizer.atexit = False
        # Rounded up so that the ragged end of the last slice is inside the block for any API.
        size = align_up(buffer_size, max(host.limits.copy_alignment, 4))
        try:
            for index in range(ring_count):
                allocation = host.allocator.block(size, "upload")
                self._allocations.append(allocation)
                self._blocks.append(Block(index, allocation))
        except BaseException:
            self._give_back()
            raise
        self._index = 0
        self._sealed: deque[Block] = deque()
        self._slices: weakref.WeakValueDictionary[object, Slice] = weakref.WeakValueDictionary()
        self._queue: deque[object] = deque()  # reserving threads, first come first served
        self._changed = threading.Condition()
        self._submission = threading.Lock()
        self._last: FencePoint | None = None
        self._closed = False
        self._stalls = self._allocated = self._staged = self._submissions = 0
        self.abandoned: deque[tuple[Block, object]] = deque()  # left by the garbage collector

    @property
    def closed(self) -> bool:
        return self._closed

    def allocate(self, nbytes: int) -> Slice | None:
        self._fits(nbytes)
        with self._changed:
            found = self._place(nbytes)
            if found is None:
                self._stalls += 1
        self._flush()
        return found

    def reserve(self, nbytes: int, timeout: float | None = None) -> Slice:
        self._fits(nbytes)
        deadline = None if timeout is None else time.monotonic() + timeout
        ticket = object()
        stalled = False
        with self._changed:
            self._queue.append(ticket)
        try:
            while True:
                blocking: FencePoint | None = None
                with self._changed:
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
                self._flush()
                if found is not None:
                    return found
                self._wait(blocking, deadline, f"no room for {format_bytes(nbytes)}")
        finally:
            with self._changed:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def advance(self, timeout: float | None = None) -> FencePoint:
        self.check()
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._reap()
            current = self._blocks[self._index]
            for block in (*self._sealed, current):
                self._own_slices("advance", block)
            if current.state is _State.OPEN and current.cursor:
                self._seal(current)
            awaited = set(self._sealed)
        while True:
            self._flush()
            with self._changed:
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
        with self._changed:
            self._reap()
            for block in self._blocks:
                self._own_slices("upload", block)
        deadline = None if timeout is None else time.monotonic() + timeout
        if isinstance(target, DeviceTexture):
            return self._upload_rows(array, target, offset, origin, deadline)
        if not isinstance(target, DeviceBuffer):
            raise ForeignObject(f"{target!r} is not memory of this device")
        self.check_target(target)
        target.region(offset, array.nbytes)
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for start in range(0, flat.nbytes, self.buffer_size):
            piece = flat[start : start + self.buffer_size]
            slot = self.reserve(piece.nbytes, _left(deadline))
            self._host.copier.copy(slot.memory, piece)
            slot.commit(target, offset + start)
            if piece.nbytes == self.buffer_size:
                self.advance(_left(deadline))  # let the device start while the host copies on
        return self.advance(_left(deadline))

    def stats(self) -> RingStats:
        with self._changed:
            self._reap()
            flying = sum(
                block.staged
                for block in self._blocks
                if block.state is _State.FENCED and block.point is not None and not block.point.done
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
        with self._changed:
            if self._closed:
                return
            live = list(self._slices.values())
        for one in live:
            one.release()
        try:
            with self._changed:
                current = self._blocks[self._index]
                if current.state is _State.OPEN and current.commands:
                    self._seal(current)
            self._flush()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close without submitting anything, and wake everybody: the device closes or is lost."""
        with self._changed:
            live, self._closed = list(self._slices.values()), True
            self._changed.notify_all()
        for one in live:
            one.revoke()
        for block in self._blocks:
            self._host.allocator.unpin(block.targets, block)
        self._give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.close()
        except ViewHeld:
            if exc_info[0] is None:
                raise
            self.abandon()  # the body failed half way through a slice; its error is the one to show

    def check(self) -> None:
        """Raise unless the ring and its device are open."""
        self._host.check()
        if self._closed:
            raise Closed("the staging ring was closed; make another with device.staging_ring()")

    def check_target(self, target: DeviceBuffer | DeviceTexture) -> None:
        """Raise unless ``target`` is open memory of this ring's device."""
        self.check()
        target.check(self._host)

    def pin(self, target: Allocation, key: object) -> None:
        self._host.allocator.pin([target], key)

    def unpin(self, target: Allocation, key: object) -> None:
        self._host.allocator.unpin([target], key)

    def settle(
        self, block: Block, key: object, nbytes: int, command: Command | None, target: Allocation | None
    ) -> None:
        """Take a slice back, with the copy it asks for, if any."""
        with self._changed:
            block.outstanding.pop(key, None)
            if command is not None and target is not None:
                block.commands.append(command)
                block.targets[target] = None
                target.pins.add(block)
                block.staged += nbytes
                self._staged += nbytes
            self._changed.notify_all()
        self._flush()

    def _place(self, nbytes: int, *, eager: bool = False) -> Slice | None:
        """Find room under the lock, or None. ``eager``: seal a block that is too full even so."""
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
        block.outstanding[found.key] = threading.get_ident()
        self._slices[found.key] = found
        return found

    def _available(self, block: Block) -> bool:
        if block.state is _State.FENCED and not block.in_flight():
            block.reset()
        return block.state is _State.OPEN

    def _seal(self, block: Block) -> None:
        block.state = _State.SEALED
        self._sealed.append(block)
        self._index = (block.index + 1) % self.ring_count

    def _flush(self) -> None:
        """Submit the sealed blocks whose slices are all committed, in ring order."""
        if not self._sealed:
            return
        with self._submission:
            while True:
                with self._changed:
                    self._reap()
                    block = self._sealed[0] if self._sealed else None
                    if block is None or block.outstanding:
                        return
                if block.commands:
                    # Raises with the block still sealed: nothing is lost, the next call tries again.
                    point = self._host.submit_commands(
                        self.lane, block.commands, [], [*block.targets, block.allocation]
                    )
                    self._host.allocator.unpin(block.targets, block)
                    self._submissions += 1
                    self._last = point
                with self._changed:
                    self._sealed.popleft()
                    if block.commands:
                        block.state, block.point = _State.FENCED, point
                    else:
                        block.reset()
                    self._changed.notify_all()

    def _reap(self) -> None:
        """Take note of slices that the garbage collector found."""
        while self.abandoned:
            block, key = self.abandoned.popleft()
            block.outstanding.pop(key, None)

    def _own_slices(self, what: str, block: Block) -> None:
        mine = sum(thread == threading.get_ident() for thread in block.outstanding.values())
        if mine and (block.state is not _State.OPEN or what != "reserve"):
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
        with self._changed:
            self._changed.wait(left)

    def _upload_rows(
        self,
        array: NDArray[Any],
        target: DeviceTexture,
        offset: int,
        origin: tuple[int, int],
        deadline: float | None,
    ) -> FencePoint:
        self.check_target(target)
        texel = target.format.block_bytes
        if offset:
            raise UsageError("a texture takes origin=(x, y) in texels, not a byte offset")
        if array.ndim not in (2, 3) or array.itemsize * int(np.prod(array.shape[2:])) != texel:
            raise UsageError(
                f"an array of shape {array.shape} and dtype {array.dtype} is not rows of "
                f"{target.format.name}, {texel} bytes a texel; give (rows, columns) or (rows, columns, "
                f"{target.format.channels})"
            )
        height, width = array.shape[:2]
        target.region(origin, (width, height))
        if not array.size:
            return self.advance(_left(deadline))
        rows = np.ascontiguousarray(array).view(np.uint8).reshape(height, width * texel)
        pitch = align_up(width * texel, self.limits.row_pitch_alignment)
        at_once = 1 + (self.buffer_size - width * texel) // pitch
        if at_once < 1:
            raise TooLarge(
                f"one row of {width * texel} bytes is more than the ring's buffer_size of "
                f"{format_bytes(self.buffer_size)}; make a ring with larger blocks"
            )
        for y in range(0, height, at_once):
            part = rows[y : y + at_once]
            slot = self.reserve((len(part) - 1) * pitch + part.shape[1], _left(deadline))
            self._host.copier.copy(np.ndarray(part.shape, np.uint8, slot.memory.data, 0, (pitch, 1)), part)
            slot.commit_rows(
                target, origin=(origin[0], origin[1] + y), size=(width, len(part)), row_pitch=pitch
            )
        return self.advance(_left(deadline))

    def _fits(self, nbytes: int) -> None:
        self.check()
        if not isinstance(nbytes, (int, np.integer)) or nbytes < 1:
            raise UsageError(f"a slice has at least 1 byte, not {nbytes!r}")
        if nbytes > self.buffer_size:
            raise TooLarge(
                f"{format_bytes(nbytes)} never fit in one slice of this ring, whose blocks are "
                f"{format_bytes(self.buffer_size)}; use upload(), which takes any size, or larger blocks"
            )

    def _give_back(self) -> None:
        if self._finalizer.detach() is None:
            return
        for allocation in self._allocations:
            self._host.allocator.release(allocation)


def _drop_all(allocator: Allocator, allocations: list[Allocation], blocks: list[Block]) -> None:
    for block in blocks:
        allocator.unpin(block.targets, block)
    for allocation in allocations:
        allocator.drop(allocation)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
