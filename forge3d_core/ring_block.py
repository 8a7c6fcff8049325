"""The blocks of a staging ring: what is committed in each, and where it is in its round."""

from __future__ import annotations

import enum
import threading
import weakref
from collections import deque

import attrs

from forge3d_core.allocation import Allocation, Allocator
from forge3d_core.driver import Command
from forge3d_core.errors import again
from forge3d_core.protocols import FencePoint


class State(enum.Enum):
    """Where a block is in its round."""

    OPEN = "open"  # takes slices; a block nobody uses is open and empty
    SEALED = "sealed"  # takes no more, and is submitted once its last slice is committed
    FENCED = "fenced"  # the device reads it


@attrs.frozen(eq=False)
class Staged:
    """A committed slice: the copy it asks for."""

    command: Command
    nbytes: int


@attrs.define(eq=False)
class Block:
    """One of the ring's blocks."""

    index: int
    allocation: Allocation
    state: State = State.OPEN
    cursor: int = 0
    targets: dict[Allocation, list[Staged]] = attrs.field(factory=dict)
    outstanding: dict[object, threading.Thread] = attrs.field(factory=dict)  # slice key: who allocated it
    point: FencePoint | None = None

    @property
    def commands(self) -> list[Command]:
        """The copies out of it, to be submitted together; those to one target in the order of commits."""
        return [staged.command for copies in self.targets.values() for staged in copies]

    @property
    def staged(self) -> int:
        """How many bytes were committed in it."""
        return sum(staged.nbytes for copies in self.targets.values() for staged in copies)

    def reset(self) -> None:
        """Take the block back into use, empty."""
        self.state, self.cursor, self.point, self.targets = State.OPEN, 0, None, {}

    def in_flight(self) -> bool:
        """Whether the device may still read it. Raises the failure of a lane that will never say."""
        if self.state is not State.FENCED or self.point is None or self.point.done:
            return False
        if (failure := self.point.timeline.failure) is not None:
            raise again(failure)
        return True

    def refuse(self, lane: str) -> dict[Allocation, Exception]:
        """Drop the copies that no submission can ever order any more, and return what failed, by target."""
        refused = {target: failure for target in self.targets if (failure := failure_before(target, lane))}
        for target in refused:
            del self.targets[target]
            target.pins.discard(self)
        return refused


def failure_before(target: Allocation, lane: str) -> Exception | None:
    """Return the failure of another lane's work that a copy to ``target`` on ``lane`` comes after, if any."""
    for point in target.dependencies(lane, writes=True):
        if (failure := point.timeline.failure) is not None and not point.done:
            return failure
    return None


class Circle:
    """A ring's blocks and the lock that guards them.

    They are taken together, and given back together when ``ring`` closes or is collected. ``changed``
    is told of whatever somebody may wait for. Enter ``lock``, never ``changed``: a condition's own
    enter is Python, which an interrupt may leave half way.
    """

    def __init__(self, ring: object, allocator: Allocator, count: int, nbytes: int) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.blocks: list[Block] = []
        self.abandoned: deque[tuple[Block, object]] = deque()
        """Slices that the garbage collector found, by block and key."""
        self._allocator = allocator
        self._finalizer = weakref.finalize(ring, _drop_all, allocator, self.blocks)
        self._finalizer.atexit = False
        try:
            allocator.afford(count, nbytes)
            for index in range(count):
                self.blocks.append(Block(index, allocator.block(nbytes, "upload")))
        except BaseException:
            self.give_back()
            raise

    def reap(self) -> None:
        """Take note of slices that the garbage collector found; under the lock."""
        while self.abandoned:
            block, key = self.abandoned.popleft()
            block.outstanding.pop(key, None)

    def give_back(self) -> None:
        """Give back each block when nobody uses it any more, and drop what was committed; idempotent."""
        if self._finalizer.detach() is None:
            return
        for block in self.blocks:
            self._allocator.unpin(block.targets, block)
        for block in self.blocks:
            self._allocator.release(block.allocation)


def _drop_all(allocator: Allocator, blocks: list[Block]) -> None:
    for block in blocks:
        allocator.unpin(block.targets, block)
    for block in blocks:
        allocator.drop(block.allocation)
