"""The blocks of a staging ring: what is committed in each, and where it is in its round."""

from __future__ import annotations

import enum
import threading
import weakref
from typing import Any

import attrs

from forge3d_core.driver import Command
from forge3d_core.errors import BudgetError, ViewHeld, copy_exception
from forge3d_core.memory.allocator import Allocation, Allocator, Owned
from forge3d_core.protocols import FencePoint
from forge3d_core.ring.holder import held_here
from forge3d_core.units import align_up


class State(enum.Enum):
    """Where a block is in its round."""

    OPEN = "open"  # takes slices; a block nobody uses is open and empty
    SEALED = "sealed"  # takes no more, and is submitted once its last slice is committed
    IN_FLIGHT = "fenced"  # the device reads it


@attrs.frozen(eq=False)
class Staged:
    """A committed slice: the copy it asks for. As long as it is kept, its target is.

    ``moved`` is memory of its own that the bytes are in, as they could be reached where they were written.
    """

    target: Allocation
    command: Command
    nbytes: int
    moved: Owned | None = None


@attrs.frozen(eq=False)
class Lent:
    """A slice as its block knows it. The block must not keep it: then it would never be gone."""

    slice: weakref.ref[Any]
    block: int
    offset: int
    nbytes: int
    thread: threading.Thread = attrs.field(factory=threading.current_thread)  # that allocated it

    def here(self, waited: bool) -> bool:
        """Whether no thread but the calling one can commit it: it belongs to the thread that has it.

        ``waited``: also one of a thread that has ended since. One that was dropped, with an array over
        its memory alive, can be committed by none.
        """
        if self.thread is not threading.current_thread() and (not waited or self.thread.is_alive()):
            return False
        found = self.slice()
        return found is None or held_here(found)

    def __str__(self) -> str:
        where = f"{self.nbytes} bytes at {self.offset} of block {self.block}"
        return f"{where}, allocated by thread {self.thread.name!r}"


@attrs.define(eq=False)
class Block:
    """One of the ring's blocks.

    ``outstanding`` has the slices that are neither committed nor released, by a reference to their
    memory: one that is dropped, in whatever way, is gone from it without anything being called.
    """

    index: int
    owned: Owned | None  # None: given back
    allocation: Allocation
    state: State = State.OPEN
    cursor: int = 0
    copies: list[Staged] = attrs.field(factory=list)  # in the order of commits
    outstanding: dict[weakref.ref[Any], Lent] = attrs.field(factory=dict)
    point: FencePoint | None = None
    flying: int = 0  # bytes that the device copies

    @property
    def targets(self) -> list[Allocation]:
        """Where its copies go, each once."""
        return list(dict.fromkeys(staged.target for staged in self.copies))

    @property
    def moved(self) -> list[Allocation]:
        """The memory that its copies read beside its own."""
        return [staged.moved.allocation for staged in self.copies if staged.moved is not None]

    @property
    def staged(self) -> int:
        """How many bytes are committed in it and not submitted."""
        return sum(staged.nbytes for staged in self.copies)

    def reset(self) -> None:
        """Take the block back into use, empty."""
        self.state, self.cursor, self.point, self.copies, self.flying = State.OPEN, 0, None, [], 0

    @property
    def occupied(self) -> bool:
        """Whether it is empty and still not to be written, as arrays of its last round reach the memory."""
        return self.state is State.OPEN and not self.cursor and self.allocation.reachable

    def in_flight(self) -> bool:
        """Whether the device may still read it. Raises the failure of a lane that will never say."""
        if self.state is not State.IN_FLIGHT or self.point is None or self.point.done:
            return False
        if (failure := self.point.timeline.failure) is not None:
            raise copy_exception(failure)
        return True

    def refuse(self, lane: str) -> dict[Allocation, Exception]:
        """Drop the copies that no submission can ever order any more, and return what failed, by target."""
        refused = {target: failure for target in self.targets if (failure := failure_before(target, lane))}
        if refused:
            self.copies = [staged for staged in self.copies if staged.target not in refused]
        return refused


def failure_before(target: Allocation, lane: str) -> Exception | None:
    """Return the failure of another lane's work that a copy to ``target`` on ``lane`` comes after, if any."""
    for point in target.dependencies(lane, writes=True):
        if (failure := point.timeline.failure) is not None and not point.done:
            return failure
    return None


class BlockSet:
    """A ring's blocks and the lock that guards them.

    They are taken together, and given back together when the ring closes or is collected. ``changed``
    is told of all that is waited for. Enter ``lock``, never ``changed``: a condition's own enter is
    Python, which an interrupt may leave half way.
    """

    def __init__(self, allocator: Allocator, count: int, nbytes: int, unit: int) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.blocks: list[Block] = []
        self._allocator = allocator
        self._unit = unit  # the ragged end of a slice is inside the memory, for any API
        nbytes = align_up(nbytes, unit)
        try:
            allocator.afford(count, nbytes)
            for index in range(count):
                owned = allocator.block(nbytes, "upload")
                self.blocks.append(Block(index, owned, owned.allocation))
        except BaseException:
            self.give_back()
            raise

    def spare(self, nbytes: int) -> Owned:
        """Return memory for the bytes of a slice that aliases reach, or raise :class:`ViewHeld`."""
        try:
            return self._allocator.block(align_up(nbytes, self._unit), "upload")
        except BudgetError as error:
            raise ViewHeld(
                "arrays of this slice are still referred to, by an alias or by more than local variables, so "
                f"its bytes have to be moved out of their reach, and there is no memory for that: {error}. "
                "Drop the arrays (del), or keep them in local variables only, and commit again"
            ) from error

    def renew(self, block: Block) -> None:
        """Give a block other memory, as arrays still reach what it has; that goes back when they are gone.

        Not under the lock. Raises a :class:`BudgetError`, and then the block is as it was.
        """
        try:
            spare = self._allocator.block(block.allocation.native.nbytes, "upload")
        except BudgetError as error:
            raise type(error)(
                f"arrays of {len(block.allocation.stale)} slice(s) that were committed or released in block "
                f"{block.index} are still referred to, by a variable or an alias, so the ring needs other "
                f"memory, and there is none: {error}. Drop the arrays (del), or make a ring of more blocks"
            ) from error
        with self.lock:
            if block.owned is not None and block.occupied:
                block.allocation, block.owned, spare = spare.allocation, spare, block.owned
        self._allocator.release(spare)

    def give_back(self) -> None:
        """Give back each block as soon as it is out of use, and drop what was committed; idempotent."""
        for block in self.blocks:
            block.copies = []
            owned, block.owned = block.owned, None
            if owned is not None:
                self._allocator.release(owned)
