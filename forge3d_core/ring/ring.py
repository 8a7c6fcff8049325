"""The staging ring, once for all backends: blocks in a circle, each reused only behind its fence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from functools import partial
from typing import Protocol, Self

from numpy.typing import ArrayLike

from forge3d_core import protocols
from forge3d_core.arguments import integer, shown
from forge3d_core.deadline import NEVER, Deadline
from forge3d_core.driver import Memory
from forge3d_core.errors import (
    BudgetError,
    Closed,
    ForgeError,
    TooLarge,
    UsageError,
    copy_exception,
)
from forge3d_core.lifetime.async_with import AsyncWith
from forge3d_core.lifetime.life import Life
from forge3d_core.lifetime.teardown import Turn
from forge3d_core.memory.allocator import Allocation
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.memory.textures import DeviceTexture
from forge3d_core.presentation import line, presents
from forge3d_core.protocols import FencePoint, Limits, RingStats
from forge3d_core.ring.block import Block, Phase, Staged
from forge3d_core.ring.block_set import BlockSet
from forge3d_core.ring.coroutines import AsyncRoom, upload_async
from forge3d_core.ring.request import UploadRequest, upload_request, upload_requests
from forge3d_core.ring.room import Room
from forge3d_core.ring.slice import Slice
from forge3d_core.ring.small_upload import stage_small
from forge3d_core.ring.state import RingState
from forge3d_core.ring.submission import SubmissionQueue, Submitter, failure_before
from forge3d_core.ring.upload import upload
from forge3d_core.ring.waiting import Waiting, refuse_own
from forge3d_core.transfer.transfers import Transfers
from forge3d_core.transfer.upload import Flight
from forge3d_core.units import format_bytes

MAX_BLOCKS = 8


class RingHost(Submitter, Protocol):
    """What a ring needs of its device."""

    transfers: Transfers
    life: Life

    @property
    def limits(self) -> Limits: ...

    def idle_point(self, lane: str) -> FencePoint: ...


@presents(protocols.AsyncRing)
@presents(protocols.BatchingRing)
@presents(protocols.StagingRing)
class Ring(AsyncWith):
    """See :class:`forge3d_core.protocols.StagingRing`.

    A ring that takes several uploads in one call. A ring for coroutines, under asyncio and trio.

    The lock of ``waiting`` guards ``state``; nothing is submitted and nothing waited for under it.
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
        self.life = host.life.below()
        self.memory = BlockSet(host.allocator, ring_count, buffer_size, max(host.limits.copy_alignment, 4))
        self.waiting = Waiting()
        self.state = RingState(buffer_size, host.limits.staging_alignment, self.memory.blocks)
        self._host = host
        self._queue = SubmissionQueue(host, self.state, self.waiting, lane)
        self.room = Room(self.life, self.state, self.memory, self._queue)
        self.waits = AsyncRoom(self.life, self.room, self.state, self._queue)
        self._closed = False
        self._turn = Turn()

    @property
    def closed(self) -> bool:
        return self._closed

    def allocate(self, nbytes: int) -> Slice | None:
        nbytes = self._fits(nbytes)
        try:
            found = self.room.take(nbytes, partial(Slice, self, nbytes), eager=False)
        except BudgetError:  # full, then: the budget has no room either
            found = None
        if isinstance(found, Slice):
            if self.state.sealed:
                self._flush_with(found)
            return found
        with self.waiting.lock:
            self.state.stalls += 1
        return None

    def reserve(self, nbytes: int, timeout: float | None = None) -> Slice:
        deadline = NEVER if timeout is None else Deadline.after(timeout)
        if type(nbytes) is not int or not 0 < nbytes <= self.buffer_size:
            nbytes = self._fits(nbytes)
        make = partial(Slice, self, nbytes)
        found = self.room.take(nbytes, make)
        if not isinstance(found, Slice):
            found = self.room.wait(nbytes, make, deadline)
        if self.state.sealed:
            self._flush_with(found)
        return found

    def reserve_until(self, nbytes: int, deadline: Deadline) -> Slice:
        """Do what ``reserve`` does, for a call with a deadline of its own."""
        return self.reserve(nbytes, deadline.timeout)

    def advance(self, timeout: float | None = None) -> FencePoint:
        point = self.submit(NEVER if timeout is None else Deadline.after(timeout))
        if self._queue.refused:
            self._queue.tell_refused()
        return point

    def submit(self, deadline: Deadline) -> FencePoint:
        """Do what ``advance`` does, and leave copies that were refused for others to tell of."""
        state = self.state
        with self.waiting.lock:
            if self.life.ended is not None:
                raise copy_exception(self.life.ended)
            for block in state.blocks:
                if block.outstanding:
                    refuse_own("advance", state.blocks)
            state.seal()
            awaited = state.sealed.copy()
        if awaited:
            self._queue.flush()
            if state.sealed:
                self.room.wait_submitted(awaited, deadline)
        return self._host.idle_point(self.lane) if state.last is None else state.last

    def upload(
        self,
        data: ArrayLike,
        target: protocols.Buffer | protocols.Texture,
        offset: int = 0,
        *,
        origin: protocols.Origin = (0, 0),
        timeout: float | None = None,
    ) -> FencePoint:
        deadline = NEVER if timeout is None else Deadline.after(timeout)
        if self.life.ended is not None:
            raise copy_exception(self.life.ended)
        return self._upload([upload_request(data, target, offset, origin, self.check_target)], deadline)

    def upload_many(
        self, uploads: Iterable[protocols.WantedUpload], *, timeout: float | None = None
    ) -> FencePoint:
        deadline = NEVER if timeout is None else Deadline.after(timeout)
        if self.life.ended is not None:
            raise copy_exception(self.life.ended)
        return self._upload(upload_requests(uploads, self.check_target), deadline)

    def _upload(self, requests: list[UploadRequest], deadline: Deadline) -> FencePoint:
        """Stage what is asked for, one after the other, and submit it together."""
        for block in self.state.blocks:
            if block.outstanding:
                refuse_own("upload", self.state.blocks)
        for array, target, offset, origin in requests:
            if isinstance(target, DeviceTexture) or not stage_small(self, array, target, offset):
                flights = upload(self, self._host, array, target, (offset, origin), deadline)
                self.flew(flights)
        point = self.submit(deadline)
        for array, target, _, _ in requests:
            if self._queue.refused:
                self._queue.tell_refused(target.allocation)
            target.allocation.uploaded = (point, array.dtype) if array.dtype.kind == "f" else None
        return point

    def flew(self, flights: list[Flight]) -> None:
        """Note what was submitted beside the blocks."""
        with self.waiting.lock:
            self.state.flew(flights)

    async def reserve_async(self, nbytes: int, timeout: float | None = None) -> Slice:
        deadline, nbytes = Deadline.after(timeout), self._fits(nbytes)
        found = await self.waits.take(nbytes, partial(Slice, self, nbytes), deadline)
        if self.state.sealed:
            self._flush_with(found)
        return found

    async def advance_async(self, timeout: float | None = None) -> FencePoint:
        await self.waits.submit(Deadline.after(timeout))
        if self._queue.refused:
            self._queue.tell_refused()
        return self._host.idle_point(self.lane) if self.state.last is None else self.state.last

    async def upload_async(
        self,
        data: ArrayLike,
        target: protocols.Buffer | protocols.Texture,
        offset: int = 0,
        *,
        origin: protocols.Origin = (0, 0),
        timeout: float | None = None,
    ) -> FencePoint:
        deadline = Deadline.after(timeout)
        self.life.check()
        request = upload_request(data, target, offset, origin, self.check_target)
        await upload_async(self, self._host, request, deadline)
        point = await self.waits.submit(deadline) or self._host.idle_point(self.lane)
        if self._queue.refused:
            self._queue.tell_refused(request.target.allocation)
        floats = request.array.dtype.kind == "f"
        request.target.allocation.uploaded = (point, request.array.dtype) if floats else None
        return point

    def stats(self) -> RingStats:
        with self.waiting.lock:
            state = self.state
            flying = sum(
                block.flying
                for block in state.blocks
                if block.phase is Phase.IN_FLIGHT and block.point is not None and not block.point.done
            )
            flying += sum(flight.nbytes for flight in state.flights if not flight.point.done)
            return RingStats(
                ring_count=self.ring_count,
                buffer_size=self.buffer_size,
                current_ring_index=state.index,
                bytes_in_flight=flying,
                buffer_stalls=state.stalls,
                allocations=state.allocated,
                bytes_staged=state.staged,
                submissions=state.submissions,
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
                with self.waiting.lock:
                    if self.state.blocks[self.state.index].commands:
                        self.state.seal()
                self._queue.flush()
                self._queue.tell_refused()
        finally:
            self.abandon()  # a second time, too: the first may have been cut short

    def abandon(self) -> None:
        """Close without submitting anything, and wake all that wait: the device closes or is lost."""
        with self.waiting.lock:
            self._closed = True
            self.life.end(Closed("the staging ring was closed; make another with device.staging_ring()"))
            self.state.forget()
            self.waiting.wake()
        for one in self._live():
            one.revoke()
        self.memory.give_back()

    def __repr__(self) -> str:
        flying = sum(block.phase is Phase.IN_FLIGHT for block in self.state.blocks)
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

    def check_target(self, target: DeviceBuffer | DeviceTexture) -> None:
        """Raise unless ``target`` is open memory of this ring's device, and no work on it has failed."""
        target.check(self._host)
        allocation = target.allocation
        write = allocation.write
        ours = not allocation.reads and (write is None or write.timeline.name == self.lane)
        if not ours and (failure := failure_before(allocation, self.lane)) is not None:
            raise copy_exception(failure)

    def staged(self, block: Block, target: Allocation, memory: Memory) -> Staged:
        """Return what this round of ``block`` has for ``target``, pinned; the ring's lock is held."""
        if self.life.ended is not None:
            raise copy_exception(self.life.ended)
        staged = block.targets.get(memory)
        if staged is None:
            staged = Staged(target)
            self._host.allocator.pin((target,), staged)
        return staged

    def pin(self, block: Block, user: object) -> None:
        """Keep a block's memory while ``user`` lives."""
        self._host.allocator.pin((block.allocation,), user)

    def proceed(self) -> None:
        """Go on where a slice was waited for. What cannot be submitted is for ``advance`` to say."""
        if self.waiting.line or self.waiting.asleep:
            self.waiting.wake()
        if self.state.sealed:
            with contextlib.suppress(ForgeError):
                self._queue.flush()

    def _flush_with(self, found: Slice) -> None:
        """Submit what has become due, and give the new slice back where that fails: the caller gets none."""
        try:
            self._queue.flush()
        except BaseException:
            found.revoke()
            raise

    def _live(self) -> list[Slice]:
        """Return the slices that are neither committed nor released."""
        with self.waiting.lock:
            known = [lent.slice() for block in self.state.blocks for lent in block.outstanding.copy()]
        return [one for one in known if one is not None]

    def _fits(self, nbytes: int) -> int:
        self.life.check()
        nbytes = integer("the size of a slice, at least 1 byte,", nbytes)
        if nbytes < 1:
            raise UsageError(f"a slice has at least 1 byte, not {shown(nbytes)}")
        if nbytes > self.buffer_size:
            raise TooLarge(
                f"{format_bytes(nbytes)} never fit in one slice of this ring, whose blocks are "
                f"{format_bytes(self.buffer_size)}; use upload(), which takes any size, or larger blocks"
            )
        return nbytes
