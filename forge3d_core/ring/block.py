"""The blocks of a staging ring: what is committed in each, and where it is in its round."""

from __future__ import annotations

import enum
import threading
import weakref
from typing import Any

import attrs

from forge3d_core.driver import Memory, Upload, UploadRows
from forge3d_core.lifetime.hold import Reference
from forge3d_core.memory.allocator import Allocation, Owned
from forge3d_core.protocols import FencePoint
from forge3d_core.ring.holder import held_here

StagingCommand = Upload | UploadRows


class Phase(enum.Enum):
    """Where a block is in its round."""

    OPEN = "open"  # takes slices; a block out of use is open and empty
    SEALED = "sealed"  # takes no more, and is submitted once its last slice is committed
    IN_FLIGHT = "in flight"  # the device reads it


@attrs.define(eq=False)
class Staged:
    """What one round of a block has for one target; as long as it is kept, the target's memory is."""

    allocation: Allocation
    nbytes: int = 0


class Lent(Reference):
    """A slice as its block knows it: a reference to what stands for it, which is gone when the slice is.

    The block must not keep the slice itself: then a slice that the program drops would never be gone.
    """

    __slots__ = ("block", "nbytes", "offset", "slice", "thread")
    slice: weakref.ref[Any]
    block: int
    offset: int
    nbytes: int
    thread: threading.Thread  # that allocated it

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

    ``outstanding`` has the slices that are neither committed nor released. One that is dropped, in
    whatever way, leaves it without a call. ``targets`` has what the commands of this round name, and
    ``spares`` the memory that they read beside the block's own.
    """

    index: int
    allocation: Allocation
    phase: Phase = Phase.OPEN
    cursor: int = 0
    outstanding: set[Lent] = attrs.field(factory=set)
    commands: list[StagingCommand] = attrs.field(factory=list)  # in the order of commits
    targets: dict[Memory, Staged] = attrs.field(factory=dict)
    spares: list[Owned] = attrs.field(factory=list)
    staged: int = 0  # bytes that are committed and not submitted
    point: FencePoint | None = None
    flying: int = 0  # bytes that the device copies

    @property
    def occupied(self) -> bool:
        """Whether it is empty and still not to be written, as arrays of its last round reach the memory."""
        return self.phase is Phase.OPEN and not self.cursor and self.allocation.reachable
