"""A staging ring for coroutines: they wait on their own loop, and copy there no more than a little."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar, cast

from forge3d_core.deadline import Deadline
from forge3d_core.errors import Cancelled, StateError, copy_exception
from forge3d_core.lifetime.life import Life
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.memory.textures import DeviceTexture
from forge3d_core.protocols import FencePoint
from forge3d_core.ring.block import Block, Phase
from forge3d_core.ring.request import UploadRequest
from forge3d_core.ring.room import Make, Room
from forge3d_core.ring.slice import Slice
from forge3d_core.ring.small_upload import SmallUploadHost, stage_small
from forge3d_core.ring.state import RingState
from forge3d_core.ring.submission import SubmissionQueue
from forge3d_core.ring.upload import UploadDevice, UploadHost, commit_part, plan_upload
from forge3d_core.ring.waiting import LOOK_SECONDS, Turn
from forge3d_core.timeline.points import forget
from forge3d_core.transfer.copying import INLINE_BYTES, aside
from forge3d_core.transfer.source import Run, Runs, Tile, Tiles
from forge3d_core.transfer.upload import Flight, Goal
from forge3d_core.transfer.workers import Crew
from forge3d_core.units import format_bytes

T = TypeVar("T")

OTHERS_LOOK_SECONDS = 1.0
"""How often a coroutine that is not the first looks by itself, in case the loop of the first stands still."""

LOOKS_PER_SECOND = 500
"""How often those look in all, about, in a long line: each the rarer, the longer it is."""


class AsyncRoom:
    """Waits for what a ring's room and its blocks are about to have.

    Coroutines and threads stand in one line. A slice in the way may be another task's of this very thread,
    so none is refused: that a task waits for a slice of its own only its timeout ends.

    Thread-safety: any loop of any thread.
    """

    def __init__(self, life: Life, room: Room, state: RingState, queue: SubmissionQueue) -> None:
        self._life = life
        self._room = room
        self._state = state
        self._queue = queue
        self._waiting = queue.waiting

    @cached_property
    def leader(self) -> Crew:
        """The one thread that leads large uploads, which waits for the device; it ends when it has none."""
        return Crew(threads=1)

    async def take(self, nbytes: int, make: Make[T], deadline: Deadline) -> T:
        """Return what ``make`` makes of a place for ``nbytes``, once there is one.

        Raises :class:`FenceTimeout` if late. Cancelled, it leaves its place in the line to the next.
        """
        found = self._room.take(nbytes, make)
        if found is not None and not isinstance(found, Block):
            return found
        turn, waiting, stalled = Turn(), self._waiting, False
        why = f"no room for {format_bytes(nbytes)}"
        watched: FencePoint | None = None

        def settled(_point: FencePoint, _error: Exception | None) -> None:
            with waiting.lock:
                turn.call()

        waiting.line.append(turn)
        try:
            while True:
                found = self._room.take(nbytes, make, turn=turn)
                if found is not None and not isinstance(found, Block):
                    return found
                if self._state.sealed:
                    self._queue.flush()
                with waiting.lock:
                    if found is not None and found.phase is Phase.OPEN and not found.cursor:
                        continue  # there was no copy in it, and it takes slices again
                    if not stalled:
                        self._state.stalls, stalled = self._state.stalls + 1, True
                    if found is None:
                        waiting.pass_over()
                    point = None if found is None else found.point
                rest = OTHERS_LOOK_SECONDS + len(waiting.line) / LOOKS_PER_SECOND
                left = self._room.left(deadline, why, rest if found is None else LOOK_SECONDS)
                if point is not None and point is not watched:
                    if watched is not None:
                        forget(watched, settled)
                    watched = point
                    with contextlib.suppress(StateError):  # no thread can start that would call: look
                        point.on_done(settled)
                await turn.wait(left)
        finally:
            with waiting.lock:
                if turn in waiting.line:
                    waiting.line.remove(turn)
                waiting.wake()
            if watched is not None:
                forget(watched, settled)

    async def submit(self, deadline: Deadline) -> FencePoint | None:
        """Submit what was committed so far; return the point of the newest submission, if there was one."""
        waiting, state = self._waiting, self._state
        with waiting.lock:
            if self._life.ended is not None:
                raise copy_exception(self._life.ended)
            state.seal()
            awaited = state.sealed.copy()
        self._queue.flush()
        if any(block in state.sealed for block in awaited):
            await self._submitted(awaited, deadline)
        return state.last

    async def _submitted(self, awaited: list[Block], deadline: Deadline) -> None:
        turn, waiting = Turn(), self._waiting
        with waiting.lock:
            waiting.asleep.add(turn)
        try:
            while True:
                with waiting.lock:
                    if not any(block in self._state.sealed for block in awaited):
                        return
                    if self._life.ended is not None:
                        raise copy_exception(self._life.ended)
                await turn.wait(self._room.left(deadline, "slices of others are not committed"))
                self._queue.flush()
        finally:
            with waiting.lock:
                waiting.asleep.discard(turn)


class AsyncUploadHost(UploadHost, SmallUploadHost, Protocol):
    """What an upload for a coroutine needs of its ring."""

    buffer_size: int
    waits: AsyncRoom

    async def reserve_async(self, nbytes: int, timeout: float | None = None) -> Slice: ...

    def flew(self, flights: list[Flight]) -> None: ...


async def upload_async(
    ring: AsyncUploadHost, host: UploadDevice, request: UploadRequest, deadline: Deadline
) -> None:
    """Stage all of ``request`` and leave the last of it for the caller to submit.

    No more than ``INLINE_BYTES`` are copied on the loop's thread. Given up, what was not committed is
    released as soon as no worker writes to it.
    """
    array, target, offset, origin = request
    small = array.nbytes <= INLINE_BYTES and isinstance(target, DeviceBuffer)
    if small and stage_small(ring, array, cast(DeviceBuffer, target), offset):
        return
    plan = plan_upload(ring, host, array, target, (offset, origin))
    if plan.in_place is not None:
        await ring.waits.submit(deadline)
        command, source = plan.in_place
        point = host.submit_commands(ring.lane, [command], [source], [target.allocation])
        ring.flew([Flight(point, array.nbytes)])
        return
    if array.nbytes >= host.transfers.tuning.threshold and not plan.whole:
        await ring.waits.submit(deadline)
        if await _in_chunks(ring, host, request, plan.bulk, deadline):
            return
    if array.size:
        parts = plan.cut(ring.buffer_size)
        for number in range(len(parts)):
            await _stage(ring, host, parts.part(number), target, deadline)


async def _in_chunks(
    ring: AsyncUploadHost,
    host: UploadDevice,
    request: UploadRequest,
    cut: Callable[[int], Runs] | Callable[[int], Tiles],
    deadline: Deadline,
) -> bool:
    """Upload with the device's chunks, led by the ring's one thread for that; whether there was room."""
    given_up = False

    def check() -> None:
        ring.life.check()
        if given_up:
            raise Cancelled("the task that awaited this upload was cancelled")

    goal = Goal(host.submit_commands, ring.lane, request.target.allocation, check, deadline)
    lead: Any = partial(host.transfers.upload, request.array.nbytes, cut, goal)
    try:
        flights = await aside(ring.waits.leader, lead)
    except BaseException:
        given_up = True
        raise
    if flights is None:
        return False
    ring.flew(flights)
    return True


async def _stage(
    ring: AsyncUploadHost,
    host: UploadDevice,
    part: Run | Tile,
    target: DeviceBuffer | DeviceTexture,
    deadline: Deadline,
) -> None:
    """Stage a part in a slice of the ring; the device starts with the block once it is full."""
    slot = await ring.reserve_async(part.room, deadline.timeout)
    if part.room > INLINE_BYTES:
        await aside(host.transfers.crew, partial(slot.fill, part.fill), slot.release)
    try:
        if part.room <= INLINE_BYTES:
            slot.fill(part.fill)
        commit_part(slot, part, target)
    except BaseException:
        slot.release()
        raise
    if part.room == ring.buffer_size:
        await ring.waits.submit(deadline)  # let the device start while the host copies on
