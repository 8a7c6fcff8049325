"""The sealed blocks of a staging ring, on their way to the device in ring order."""

from __future__ import annotations

import threading
from typing import Protocol

from forge3d_core.driver import Command
from forge3d_core.errors import ForgeError, copy_exception
from forge3d_core.memory.allocator import Allocation, Allocator
from forge3d_core.protocols import FencePoint
from forge3d_core.ring.block import Block
from forge3d_core.ring.state import RingState
from forge3d_core.ring.waiting import Waiting


class Submitter(Protocol):
    """What takes a ring's copies."""

    allocator: Allocator

    def submit_commands(
        self, lane: str, commands: list[Command], reads: list[Allocation], writes: list[Allocation]
    ) -> FencePoint: ...


class SubmissionQueue:
    """Submits sealed blocks whose slices are all committed; those that are due at once go together.

    What is due is decided under the ring's lock and submitted outside it, in ring order, by the thread that
    holds the submission lock.
    """

    def __init__(self, host: Submitter, state: RingState, waiting: Waiting, lane: str) -> None:
        self.refused: dict[Allocation, Exception] = {}  # why copies were dropped, until a call has told
        self._host = host
        self._state = state
        self.waiting = waiting
        self.lane = lane
        self._submission = threading.Lock()

    def flush(self) -> None:
        """Submit what is due. What waits for work that has failed is dropped, for that alone.

        Any other error leaves the blocks as they were: nothing is lost, and the next call tries again.
        """
        waiting = self.waiting
        with self._submission:
            with waiting.lock:
                blocks = self._state.due()
            if not blocks:
                return
            point: FencePoint | None = None
            while True:
                commands: list[Command] = []
                reads: list[Allocation] = []
                writes: dict[Allocation, None] = {}
                for block in blocks:
                    commands += block.commands
                    for spare in block.spares:
                        reads += [spare.allocation]
                    for staged in block.targets.values():
                        writes[staged.allocation] = None
                    if block.commands:
                        writes[block.allocation] = None
                if not commands:
                    break
                try:
                    point = self._host.submit_commands(self.lane, commands, reads, [*writes])
                    break
                except ForgeError:
                    if not self._refuse(blocks):
                        raise
            with waiting.lock:
                self._state.submitted(blocks, point)
                if waiting.line or waiting.asleep:
                    waiting.wake()

    def tell_refused(self, target: Allocation | None = None) -> None:
        """Raise, once, why copies were dropped: of ``target`` alone, or of all."""
        with self.waiting.lock:
            told = list(self.refused) if target is None else [target]
            failures = [failure for each in told if (failure := self.refused.pop(each, None))]
        if failures:
            raise copy_exception(failures[0])

    def _refuse(self, blocks: list[Block]) -> bool:
        """Drop the copies that no submission can ever order any more; whether there were any."""
        targets = {staged.allocation for block in blocks for staged in block.targets.values()}
        refused = {each: failure for each in targets if (failure := failure_before(each, self.lane))}
        with self.waiting.lock:
            self.refused.update(refused)
            self._state.drop(blocks, refused)
        return bool(refused)


def failure_before(target: Allocation, lane: str) -> Exception | None:
    """Return the failure of another lane's work that a copy to ``target`` on ``lane`` comes after, if any."""
    for point in target.dependencies(lane, writes=True):
        if (failure := point.timeline.failure) is not None and not point.done:
            return failure
    return None
