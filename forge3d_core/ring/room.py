"""Room in a staging ring: found at once, or waited for, first come, first served."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from forge3d_core.deadline import Deadline
from forge3d_core.errors import FenceTimeout, copy_exception
from forge3d_core.lifetime.life import Life
from forge3d_core.ring.block import Block, Phase
from forge3d_core.ring.block_set import BlockSet
from forge3d_core.ring.state import RingState
from forge3d_core.ring.submission import SubmissionQueue
from forge3d_core.ring.waiting import LOOK_SECONDS, Waiting, refuse_own, wait_point
from forge3d_core.units import format_bytes

T = TypeVar("T")

Make = Callable[[Block, int], T]
"""What is made of a place, a block and an offset in it; called under the ring's lock."""


class Room:
    """Steps a ring's state until there is a place, and does outside the lock what that takes.

    Thread-safety: any thread.
    """

    def __init__(self, life: Life, state: RingState, memory: BlockSet, queue: SubmissionQueue) -> None:
        self._life = life
        self._state = state
        self._memory = memory
        self._queue = queue
        self._waiting: Waiting = queue.waiting

    def take(
        self, nbytes: int, make: Make[T], *, eager: bool = True, turn: object = None
    ) -> T | Block | None:
        """Return what ``make`` makes of a place for ``nbytes``, or the block that is in its way.

        None where other threads are first in line. ``turn``: the caller's own ticket there. ``eager``: stand
        in line, and seal a block that is too full. What that makes due is for the caller to submit.
        """
        state, waiting = self._state, self._waiting
        while True:
            with waiting.lock:
                if self._life.ended is not None:
                    raise copy_exception(self._life.ended)
                if eager and waiting.line and waiting.line[0] is not turn:
                    return None
                block, start = state.place(nbytes, eager)
                if start is not None:
                    return make(block, start)
                point = block.point
            if point is not None:
                if not point.done:
                    if (failure := point.timeline.failure) is not None:  # its lane will never say
                        raise copy_exception(failure)
                    return block
                with waiting.lock:
                    state.complete(block, point)
            elif block.occupied:
                self._memory.renew(block, waiting.lock)
            else:
                return block

    def wait(self, nbytes: int, make: Make[T], deadline: Deadline) -> T:
        """Return what ``make`` makes of a place once there is one. Raises :class:`FenceTimeout` if late."""
        ticket, waiting, stalled = object(), self._waiting, False
        why = f"no room for {format_bytes(nbytes)}"
        try:
            waiting.line.append(ticket)
            while True:
                found = self.take(nbytes, make, turn=ticket)
                if found is not None and not isinstance(found, Block):
                    return found
                if self._state.sealed:
                    self._queue.flush()
                with waiting.lock:
                    point = None
                    if found is not None:
                        if found.phase is Phase.OPEN and not found.cursor:
                            continue  # there was no copy in it, and it takes slices again
                        point = found.point
                        refuse_own("reserve", [found], waited=stalled)
                    if not stalled:
                        self._state.stalls, stalled = self._state.stalls + 1, True
                    left = self.left(deadline, why)
                    if point is None:
                        waiting.pass_over()
                        waiting.sleep(left)
                if point is not None:
                    wait_point(point, left)
        finally:
            if ticket in waiting.line:  # first of all (record 20)
                waiting.line.remove(ticket)
            waiting.wake()

    def wait_submitted(self, awaited: list[Block], deadline: Deadline) -> None:
        """Wait until the slices of blocks that are sealed are committed, and the blocks submitted."""
        while True:
            with self._waiting.lock:
                if not any(block in self._state.sealed for block in awaited):
                    return
                self._life.check()
                self._waiting.sleep(self.left(deadline, "slices of other threads are not committed"))
                refuse_own("advance", awaited, waited=True)
            self._queue.flush()

    def left(self, deadline: Deadline, why: str, look: float = LOOK_SECONDS) -> float:
        """Return how long to wait before looking again; raise :class:`FenceTimeout` once time is up."""
        left = deadline.left(look)
        if left <= 0:
            blocks = self._state.blocks
            written = [str(lent) for block in blocks for lent in block.outstanding.copy()]
            raise FenceTimeout(
                f"staging ring on lane {self._queue.lane!r}: {why}, {len(blocks)} block(s) of "
                f"{format_bytes(self._state.size)} in flight or being written"
                + (f"; neither committed nor released: {', '.join(written[:4])}" if written else "")
            )
        return left
