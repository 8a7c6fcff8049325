"""The staging ring, once for all backends: blocks in a circle, each reused only behind its fence."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Collection
from typing import Protocol, Self

from numpy.typing import ArrayLike

from forge3d_core import protocols
from forge3d_core.arguments import integer, shown
from forge3d_core.deadline import Deadline
from forge3d_core.dtypes import array_of
from forge3d_core.errors import (
    BudgetError,
    Closed,
    FenceTimeout,
    ForeignObject,
    ForgeError,
    SliceOutstanding,
    TooLarge,
    UsageError,
    copy_exception,
)
from forge3d_core.lifetime.teardown import Turn
from forge3d_core.memory.allocator import Allocation, Owned
from forge3d_core.memory.copying import HostCopier
from forge3d_core.memory.resources import DeviceBuffer, DeviceMemory, DeviceTexture
from forge3d_core.memory.views import Loan
from forge3d_core.presentation import line, presents
from forge3d_core.protocols import FencePoint, Limits, RingStats
from forge3d_core.ring.block import Block, BlockSet, Staged, State, failure_before
from forge3d_core.ring.outbox import SubmissionQueue, Submitter
from forge3d_core.ring.slice import Slice
from forge3d_core.ring.upload import upload_bytes, upload_rows
from forge3d_core.units import align_up, format_bytes

MAX_BLOCKS = 8
LOOK_SECONDS = 0.05
"""How often a wait for somebody else's slice looks up, for a loss or a close that nobody announced."""


class RingHost(Submitter, Protocol):
    """What a ring needs of its device."""

    copier: HostCopier

    @property
    def limits(self) -> Limits: ...

    def check(self) -> None: ...

    def idle_point(self, lane: str) -> FencePoint: ...


@presents(protocols.StagingRing)
class Ring:
    """See :class:`forge3d_core.protocols.StagingRing`.

    The circle's lock guards the state; nothing is submitted and nobody waited for under it.
    """

    def __init__(self, host: RingHost, ring_count: int, buffer_size: int, lane: str) -> None:
        ring_count = integer("ring_count, from 1 to 8,", ring_count)
        if not 1 <= ring_count <= MAX_BLOCKS:
            raise UsageError(f"ring_count is 1 to {MAX_BLOCKS}, not {shown(ring_count)}; 3 is a good choice")
        if buffer_size < 1:
            raise UsageError("a ring's buffer_size is at least 1 byte; '1 MiB' to '4 MiB' suits mixed loads")
        self.ring_count = ring_count
        self.buffer_size = buffer_size
        self.lane = lane
        self.limits = host.limits
        self._host = host
        self._circle = BlockSet(host.allocator, ring_count, buffer_size, max(host.limits.copy_alignment, 4))
        self._blocks, self._lock = self._circle.blocks, self._circle.lock
        self._outbox = SubmissionQueue(host, self._circle, lane)
        self._index = 0
        self._queue: deque[object] = deque()  # reserving threads, first come first served
        self._closed = False
        self._turn = Turn()
        self._occupied: Block | None = None  # what kept the last search for room from finding any
        self._stalls = self._allocated = self._staged = 0

    @property
    def closed(self) -> bool:
        return self._closed

    def allocate(self, nbytes: int) -> Slice | None:
        nbytes = self._fits(nbytes)
        while True:
            with self._lock:
                found, occupied = self._place(nbytes), self._occupied
                self._stalls += found is None and occupied is None
            if occupied is None:
                break
            try:
                self._circle.renew(occupied)
            except BudgetError:  # full, then: the budget has no room either
                with self._lock:
                    self._stalls += 1
                break
        self._flush_with(found)
        return found

    def reserve(self, nbytes: int, timeout: float | None = None) -> Slice:
        return self.reserve_until(nbytes, Deadline.after(timeout))

    def reserve_until(self, nbytes: int, deadline: Deadline) -> Slice:
        """Do what ``reserve`` does, for a call with a deadline of its own."""
        nbytes = self._fits(nbytes)
        ticket = object()
        stalled = False
        try:
            self._queue.append(ticket)
            while True:
                blocking: FencePoint | None = None
                occupied: Block | None = None
                with self._lock:
                    self.check()
                    if self._queue[0] is ticket:
                        found, occupied = self._place(nbytes, eager=True), self._occupied
                        if found is None and occupied is None:
                            blocking = self._blocks[self._index].point
                            self._own_slices("reserve", self._blocks[self._index], waited=stalled)
                    else:
                        found = None
                    if found is None and occupied is None and not stalled:
                        stalled = True
                        self._stalls += 1
                self._flush_with(found)
                if found is not None:
                    return found
                if occupied is not None:
                    self._circle.renew(occupied)
                    continue
                self._wait(blocking, deadline, f"no room for {format_bytes(nbytes)}")
        finally:
            if ticket in self._queue:  # no call of Python code up to here: an interrupt comes after one
                self._queue.remove(ticket)
            with self._lock:
                self._circle.changed.notify_all()

    def advance(self, timeout: float | None = None) -> FencePoint:
        point = self.submit(Deadline.after(timeout))
        self._outbox.tell_refused()
        return point

    def submit(self, deadline: Deadline) -> FencePoint:
        """Do what ``advance`` does, and leave copies that were refused for others to tell of."""
        self.check()
        with self._lock:
            current = self._blocks[self._index]
            for block in (*self._outbox.sealed, current):
                self._own_slices("advance", block)
            if current.state is State.OPEN and current.cursor:
                self._seal(current)
            awaited = set(self._outbox.sealed)
        while True:
            self._outbox.flush()
            with self._lock:
                if awaited.isdisjoint(self._outbox.sealed):
                    return self._outbox.last or self._host.idle_point(self.lane)
            self.check()
            self._wait(None, deadline, "slices of other threads are not committed")
            with self._lock:
                for block in awaited:
                    self._own_slices("advance", block, waited=True)

    def upload(
        self,
        data: ArrayLike,
        target: protocols.Buffer | protocols.Texture,
        offset: int = 0,
        *,
        origin: tuple[int, int] = (0, 0),
        timeout: float | None = None,
    ) -> FencePoint:
        deadline = Deadline.after(timeout)
        self.check()
        if not isinstance(target, (DeviceBuffer, DeviceTexture)):
            swapped = "; data comes first: upload(data, target)" if isinstance(data, DeviceMemory) else ""
            raise ForeignObject(f"{shown(target)} is not memory of this device{swapped}")
        array = array_of(data)
        with self._lock:
            for block in self._blocks:
                self._own_slices("upload", block)
        if isinstance(target, DeviceTexture):
            upload_rows(self, self._host.copier, array, target, offset, origin, deadline)
        else:
            upload_bytes(self, self._host.copier, array, target, offset, deadline)
        point = self.submit(deadline)
        self._outbox.tell_refused(target.allocation)
        if array.dtype.kind == "f":
            target.allocation.uploaded = point, array.dtype
        return point

    def stats(self) -> RingStats:
        with self._lock:
            flying = sum(
                block.flying
                for block in self._blocks
                if block.state is State.IN_FLIGHT and block.point is not None and not block.point.done
            )
            return RingStats(
                ring_count=self.ring_count,
                buffer_size=self.buffer_size,
                current_ring_index=self._index,
                bytes_in_flight=flying,
                buffer_stalls=self._stalls,
                allocations=self._allocated,
                bytes_staged=self._staged,
                submissions=self._outbox.submissions,
            )

    def close(self) -> None:
        if not self._host.allocator.forked:  # the parent's to close
            self._turn.run(self._close)

    def _close(self) -> None:
        if not self._closed:
            for one in self._live():
                one.release()
        try:
            if not self._closed:
                with self._lock:
                    current = self._blocks[self._index]
                    if current.state is State.OPEN and current.copies:
                        self._seal(current)
                self._outbox.flush()
                self._outbox.tell_refused()
        finally:
            self.abandon()  # a second time, too: an interrupt may have cut the first short

    def abandon(self) -> None:
        """Close without submitting anything, and wake everybody: the device closes or is lost."""
        with self._lock:
            self._closed = True
            self._circle.changed.notify_all()
        for one in self._live():
            one.revoke()
        self._circle.give_back()

    def __repr__(self) -> str:
        flying = sum(block.state is State.IN_FLIGHT for block in self._blocks)
        return line(
            f"staging ring on lane {shown(self.lane)}: {self.ring_count} x {format_bytes(self.buffer_size)}",
            f"{flying} in flight",
            "closed" if self._closed else "",
        )

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
            raise copy_exception(failure)

    def pin(self, allocations: Collection[Allocation], user: object) -> None:
        self._host.allocator.pin(allocations, user)

    def spare(self, nbytes: int) -> Owned:
        return self._circle.spare(nbytes)

    def settle(self, block: Block, loan: Loan, staged: Staged | None = None) -> None:
        """Take a slice back, with the copy it asks for, if any. What cannot be submitted ``advance`` says.

        Both under the lock, so that the block is not submitted in between.
        """
        with self._lock:
            loan.take_back()
            if staged is not None:
                self._staged += staged.nbytes
                block.copies.append(staged)
            self._circle.changed.notify_all()
        with contextlib.suppress(ForgeError):
            self._outbox.flush()

    def _live(self) -> list[Slice]:
        """Return the slices that are neither committed nor released."""
        with self._lock:
            known = [lent.slice() for block in self._blocks for lent in list(block.outstanding.values())]
        return [one for one in known if one is not None]

    def _place(self, nbytes: int, *, eager: bool = False) -> Slice | None:
        """Find room under the lock, or None. ``eager``: seal a block that is too full even so.

        ``_occupied`` is then the block that has to be renewed before there is room, if that is why.
        """
        self._occupied = None
        self.check()  # again, under the lock: a ring that is closing lends nothing
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
        block.cursor = start + nbytes
        self._allocated += 1
        return Slice(self, block, start, nbytes)

    def _available(self, block: Block) -> bool:
        if block.state is State.IN_FLIGHT and not block.in_flight():
            block.reset()
        if block.occupied:
            self._occupied = block
            return False
        return block.state is State.OPEN

    def _seal(self, block: Block) -> None:
        """Have a block take no more slices; in one step, as an interrupt comes after a call."""
        block.state, self._index = State.SEALED, (block.index + 1) % self.ring_count
        self._outbox.sealed.append(block)

    def _flush_with(self, found: Slice | None) -> None:
        """Submit what has become due, and give the new slice back where that fails: nobody will see it."""
        try:
            self._outbox.flush()
        except BaseException:
            if found is not None:
                found.revoke()
            raise

    def _own_slices(self, what: str, block: Block, *, waited: bool = False) -> None:
        """Refuse to wait for slices that no other thread can commit: that would never end."""
        if not block.outstanding or (block.state is State.OPEN and what == "reserve"):
            return
        mine = [lent for lent in list(block.outstanding.values()) if lent.here(waited)]
        if mine:
            raise SliceOutstanding(
                f"{what}: {len(mine)} slice(s) of this thread are neither committed nor released, the first "
                f"{mine[0]}, and waiting for them would never end; commit or release them first"
            )

    def _wait(self, point: FencePoint | None, deadline: Deadline, why: str) -> None:
        left = deadline.left(LOOK_SECONDS)
        if left <= 0:
            written = [str(lent) for block in self._blocks for lent in list(block.outstanding.values())]
            raise FenceTimeout(
                f"staging ring on lane {self.lane!r}: {why}, {self.ring_count} block(s) of "
                f"{format_bytes(self.buffer_size)} in flight or being written"
                + (f"; neither committed nor released: {', '.join(written[:4])}" if written else "")
            )
        if point is not None:
            try:
                point.wait(left)
            except FenceTimeout:
                pass  # the caller looks at its own deadline
            return
        with self._lock:
            self._circle.changed.wait(left)

    def _fits(self, nbytes: int) -> int:
        self.check()
        nbytes = integer("the size of a slice, at least 1 byte,", nbytes)
        if nbytes < 1:
            raise UsageError(f"a slice has at least 1 byte, not {shown(nbytes)}")
        if nbytes > self.buffer_size:
            raise TooLarge(
                f"{format_bytes(nbytes)} never fit in one slice of this ring, whose blocks are "
                f"{format_bytes(self.buffer_size)}; use upload(), which takes any size, or larger blocks"
            )
        return nbytes
