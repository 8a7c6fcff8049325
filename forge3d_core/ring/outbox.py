"""The sealed blocks of a staging ring, on their way to the device in ring order."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

from forge3d_core.driver import Command
from forge3d_core.errors import ForgeError, copy_exception
from forge3d_core.memory.allocator import Allocation, Allocator
from forge3d_core.protocols import FencePoint
from forge3d_core.ring.block import Block, BlockSet, State


class Submitter(Protocol):
    """What takes a ring's copies."""

    allocator: Allocator

    def submit_commands(
        self, lane: str, commands: list[Command], reads: list[Allocation], writes: list[Allocation]
    ) -> FencePoint: ...


class SubmissionQueue:
    """Takes blocks that take no more slices, and submits each once its last slice is committed.

    What is due is decided under the circle's lock and submitted outside it, in ring order, by whoever
    holds the submission lock.
    """

    def __init__(self, host: Submitter, circle: BlockSet, lane: str) -> None:
        self.sealed: deque[Block] = deque()
        self.last: FencePoint | None = None
        self.submissions = 0
        self._host = host
        self._circle = circle
        self._lane = lane
        self._submission = threading.Lock()
        self._refused: dict[Allocation, Exception] = {}  # copies that were dropped, and nobody told yet

    def flush(self) -> None:
        """Submit the sealed blocks whose slices are all committed, in ring order."""
        if not self.sealed:
            return
        circle = self._circle
        with self._submission:
            while True:
                with circle.lock:
                    block = self.sealed[0] if self.sealed else None
                    if block is None or block.outstanding:
                        return
                point, nbytes = self._submit(block)
                with circle.lock:
                    # In one step: an interrupt comes after a call, and a block that is not seen as
                    # submitted is submitted again.
                    if point is not None:
                        block.state, block.point, block.flying, block.copies = (
                            State.IN_FLIGHT,
                            point,
                            nbytes,
                            [],
                        )
                        self.last = point
                        self.submissions += 1
                    else:
                        block.reset()
                    del self.sealed[0]
                    circle.changed.notify_all()

    def tell_refused(self, target: Allocation | None = None) -> None:
        """Raise, once, why copies were dropped: of ``target`` alone, or of all."""
        with self._circle.lock:
            told = [target] if target is not None else list(self._refused)
            failures = [failure for each in told if (failure := self._refused.pop(each, None))]
        if failures:
            raise copy_exception(failures[0])

    def _submit(self, block: Block) -> tuple[FencePoint | None, int]:
        """Submit what the block holds; what waits for work that has failed is dropped, for that alone.

        Any other error leaves the block as it was: nothing is lost, and the next call tries again.
        """
        while block.copies:
            commands, nbytes = [staged.command for staged in block.copies], block.staged
            writes = [*block.targets, block.allocation]
            try:
                return self._host.submit_commands(self._lane, commands, block.moved, writes), nbytes
            except ForgeError:
                if not (refused := block.refuse(self._lane)):
                    raise
                with self._circle.lock:
                    self._refused.update(refused)
        return None, 0
