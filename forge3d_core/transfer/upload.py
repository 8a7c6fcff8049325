"""An upload through staging chunks: threads fill them side by side, and hand them over as they are full.

There is no barrier anywhere. A thread takes a free chunk and the next part of the source, copies, and puts
the chunk on the list of those that are full. Whichever thread finds the submission slot free submits all
that is on the list as one submission, so that what comes meanwhile makes the next one. Workers wait for
nothing; the calling thread waits for chunks that the device copies from, and then rouses the workers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

import attrs

from forge3d_core.deadline import Deadline
from forge3d_core.driver import Command
from forge3d_core.errors import FenceTimeout
from forge3d_core.foreign import view_of
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.memory.allocator import Allocation
from forge3d_core.protocols import FencePoint
from forge3d_core.transfer.chunks import Chunk, Chunks
from forge3d_core.transfer.source import Part, Parts
from forge3d_core.transfer.workers import Crew, Job
from forge3d_core.units import format_bytes

MAX_BATCH = 8
"""How many chunks one submission names at most; more would keep the device waiting for the last."""

FILL_SECONDS = 0.0002
"""How long the calling thread sleeps where workers fill all the chunks that the budget has room for."""

LOOK_SECONDS = 0.05
"""How often a wait looks up, for a close that woke no waiter."""


class Submit(Protocol):
    """The device's one way to put work on a lane."""

    def __call__(
        self, lane: str, commands: list[Command], reads: list[Allocation], writes: list[Allocation]
    ) -> FencePoint: ...


@attrs.frozen(eq=False)
class Goal:
    """Where an upload goes, and what has to hold while it does: ``check`` raises otherwise."""

    submit: Submit
    lane: str
    target: Allocation
    check: Callable[[], None]
    deadline: Deadline


@attrs.frozen(eq=False)
class Flight:
    """A submission of an upload's, and how many bytes it brings."""

    point: FencePoint
    nbytes: int


@attrs.define(eq=False)
class BulkUpload:
    """One upload. ``run`` returns when all is staged and submitted: the source may be overwritten then.

    Thread-safety: ``run`` is the calling thread's, the rest any thread's. The thread that submits holds
    ``_slot``, and no thread waits for it. The lock guards the counts and the chunks in flight.
    """

    chunks: Chunks
    guard: CallGuard
    parts: Parts
    goal: Goal
    most: int  # chunks at once
    flights: list[Flight] = attrs.field(factory=list, init=False)
    _todo: deque[int] = attrs.field(init=False)  # the parts that no thread has taken
    _room: int = attrs.field(default=0, init=False)  # what a part takes of a chunk
    _mine: list[Chunk] = attrs.field(factory=list, init=False)  # all chunks that it has
    _free: deque[Chunk] = attrs.field(factory=deque, init=False)
    _full: deque[tuple[Chunk, Part]] = attrs.field(factory=deque, init=False)
    _flying: deque[Chunk] = attrs.field(factory=deque, init=False)  # in the order of their submissions
    _count: int = attrs.field(default=0, init=False)  # of chunks that it has or is about to have
    _slot: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)

    def __attrs_post_init__(self) -> None:
        self._todo = deque(range(len(self.parts)))

    def run(self, crew: Crew, helpers: int, first: Chunk, room: int) -> FencePoint:
        """Upload with up to ``helpers`` workers and return the point behind all of it.

        ``first`` is a chunk for a start, and ``room`` what a part takes of each. However it ends, no worker
        reads the source or writes to a chunk afterwards.
        """
        self._room, self._count = room, 1
        self._mine.append(first)
        self._free.append(first)
        staged = False
        try:
            if helpers:
                crew.share(self._help, min(helpers, len(self.parts) - 1), partial(self._lead_on, crew))
            while self._lead():  # what a worker had put back
                pass
            self._hand_over()
            staged = True
        finally:
            if not staged:  # not left to the frames, which an error that the caller keeps would keep
                self.chunks.drop(self._mine)
        for chunk in self._mine:
            self.chunks.give(chunk)
        return self.flights[-1].point

    def _help(self) -> bool:
        """Do a part with a chunk that is free now; False where there is none, or no part."""
        try:
            number = self._todo.popleft()
        except IndexError:
            return False
        chunk = self._obtain()
        if chunk is None:
            self._todo.appendleft(number)
            return False
        self._fill(chunk, number)
        return True

    def _lead_on(self, crew: Crew, job: Job) -> bool:
        """Lead, and rouse the workers when there are chunks for them."""
        more = self._lead()
        if job.asleep and self._likely():
            crew.rouse(job)
        return more

    def _lead(self) -> bool:
        """Do a part, whatever has to be waited for; False where none is left to take."""
        self.goal.check()
        try:
            number = self._todo.popleft()
        except IndexError:
            return False
        chunk = self._obtain() or self._wait()
        if chunk is None:
            self._todo.appendleft(number)  # the workers have all chunks, or have failed
        else:
            self._fill(chunk, number)
        return True

    def _fill(self, chunk: Chunk, number: int) -> None:
        """Copy a part into ``chunk`` and hand it over."""
        part, guard = self.parts.part(number), self.guard
        with guard.here():
            guard.check()
            part.fill(view_of(chunk.native))
        self._full.append((chunk, part))
        self._hand_over()

    def _obtain(self) -> Chunk | None:
        """Return a chunk that is free now: one of this upload's, or one more, if it may have more."""
        try:
            return self._free.popleft()
        except IndexError:
            pass
        with self._lock:
            if self._flying and self._flying[0].free:
                return self._flying.popleft()
            if self._count >= self.most:
                return None
            self._count += 1
        chunk = self.chunks.take(self._room)
        with self._lock:
            if chunk is None:
                self._count -= 1
                self.most = max(self._count, 1)  # the budget has no room for more
            else:
                self._mine.append(chunk)
        return chunk

    def _likely(self) -> bool:
        """Whether a worker would find a chunk."""
        with self._lock:
            return self._count < self.most or (bool(self._flying) and self._flying[0].free)

    def _wait(self) -> Chunk | None:
        """Wait for the chunk that has been in flight longest and return it; None to look again."""
        with self._lock:
            chunk = self._flying.popleft() if self._flying else None
        if chunk is None:
            time.sleep(FILL_SECONDS)
            return None
        assert chunk.point is not None
        while True:
            left = self.goal.deadline.left(LOOK_SECONDS)
            try:
                chunk.point.wait(left)
                return chunk
            except FenceTimeout:
                if left < LOOK_SECONDS:
                    raise self._late() from None
            self.goal.check()

    def _hand_over(self) -> None:
        """Submit what is full, unless another thread is at it: then it submits this as well."""
        while self._full and self._slot.acquire(blocking=False):
            try:
                batch = [self._full.popleft() for _ in range(min(len(self._full), MAX_BATCH))]
                if batch:
                    self._submit(batch)
            finally:
                self._slot.release()

    def _submit(self, batch: list[tuple[Chunk, Part]]) -> None:
        commands: list[Command] = [part.command(chunk.native) for chunk, part in batch]
        reads = [chunk.allocation for chunk, _ in batch]
        point = self.goal.submit(self.goal.lane, commands, reads, [self.goal.target])
        self.flights.append(Flight(point, sum(part.nbytes for _, part in batch)))
        with self._lock:
            for chunk, _ in batch:
                chunk.point = point
                self._flying.append(chunk)

    def _late(self) -> FenceTimeout:
        staged = sum(flight.nbytes for flight in self.flights)
        return FenceTimeout(
            f"an upload on lane {self.goal.lane!r}: {format_bytes(staged)} were staged in time, in "
            f"{len(self._mine)} chunk(s) of {format_bytes(self._room)}, which the device still copies from"
        )
