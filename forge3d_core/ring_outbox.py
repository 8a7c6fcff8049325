"""The sealed blocks of a staging ring, on their way to the device in ring order."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

from forge3d_core.allocation import Allocation, Allocator
from forge3d_core.driver import Command
from forge3d_core.errors import ForgeError, again
from forge3d_core.protocols import FencePoint
from forge3d_core.ring_block import Block, Circle, State


class Submitter(Protocol):
    """What takes a ring's copies."""

    allocator: Allocator

    def submit_commands(
        self, lane: str, commands: list[Command], reads: list[Allocation], writes: list[Allocation]
    ) -> FencePoint: ...


class Outbox:
    """Takes blocks that take no more slices, and submits each once its last slice is committed.

    What is due is decided under the circle's lock and submitted outside it, in ring order, by whoever
    holds the submission lock.
    """

    def __init__(self, host: Submitter, circle: Circle, lane: str) -> None:
        self.sealed: deque[Block] = deque()
        self.last: FencePoint | None = None
        self.submissions = 0
        self._host = host
        self._circle = circle
        self._lane = lane
        self._submission = threading.Lock()
        self._refused: dict[Allocation, Exception] = {}  # copies that were dropped, and nobody told yet

    def seal(self, block: Block) -> None:
        """Take a block; under the circle's lock."""
        block.state = State.SEALED
        self.sealed.append(block)

    def flush(self) -> None:
        """Submit the sealed blocks whose slices are all committed, in ring order."""
        if not self.sealed:
            return
        circle = self._circle
        with self._submission:
            while True:
                with circle.lock:
                    circle.reap()
                    block = self.sealed[0] if self.sealed else None
                    if block is None or block.outstanding:
                        return
                point = self._submit(block)
                with circle.lock:
                    if point is not None:
                        block.state, block.point = State.FENCED, point
                    else:
                        block.reset()
                    del self.sealed[0]  # no call since the state was set: an interrupt comes after one
                    circle.changed.notify_all()

    def tell_refused(self, target: Allocation | None = None) -> None:
        """Raise, once, why copies were dropped: of ``target`` alone, or of all."""
        with self._circle.lock:
            told = [target] if target is not None else list(self._refused)
            failures = [failure for each in told if (failure := self._refused.pop(each, None))]
        if failures:
            raise again(failures[0])

    def _submit(self, block: Block) -> FencePoint | None:
        """Submit what the block holds; what waits for work that has failed is dropped, for that alone.

        Any other error leaves the block as it was: nothing is lost, and the next call tries again.
        """
        while block.targets:
            try:
                point = self._host.submit_commands(
                    self._lane, block.commands, [], [*block.targets, block.allocation]
                )
            except ForgeError:
                if not (refused := block.refuse(self._lane)):
                    raise
                with self._circle.lock:
                    self._refused.update(refused)
            else:
                self._host.allocator.unpin(block.targets, block)
                self.submissions += 1
                self.last = point
                return point
        return None
