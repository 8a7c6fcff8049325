"""The memory of a staging ring's blocks."""

from __future__ import annotations

import threading

from forge3d_core.errors import BudgetError, ViewHeld
from forge3d_core.memory.allocator import Allocator, Owned
from forge3d_core.ring.block import Block
from forge3d_core.units import align_up


class BlockSet:
    """The memory of a ring's blocks: taken together, and given back together.

    It goes back when the ring closes or is collected. Memory that arrays still reach is replaced, block by
    block. ``blocks`` are for the ring's state to step.
    """

    def __init__(self, allocator: Allocator, count: int, nbytes: int, unit: int) -> None:
        self.blocks: list[Block] = []
        self._owned: list[Owned | None] = []  # None: given back
        self._allocator = allocator
        self._unit = unit  # the ragged end of a slice is inside the memory, for any API
        nbytes = align_up(nbytes, unit)
        try:
            allocator.afford(count, nbytes)
            for index in range(count):
                owned = allocator.block(nbytes, "upload")
                self._owned.append(owned)
                self.blocks.append(Block(index, owned.allocation))
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

    def renew(self, block: Block, lock: threading.RLock) -> None:
        """Give a block other memory, as arrays still reach what it has; that goes back when they are gone.

        Not under ``lock``, the ring's. Raises a :class:`BudgetError`, and then the block is as it was.
        """
        try:
            spare = self._allocator.block(block.allocation.native.nbytes, "upload")
        except BudgetError as error:
            raise type(error)(
                f"arrays of {len(block.allocation.stale)} slice(s) that were committed or released in block "
                f"{block.index} are still referred to, by a variable or an alias, so the ring needs other "
                f"memory, and there is none: {error}. Drop the arrays (del), or make a ring of more blocks"
            ) from error
        with lock:
            owned = self._owned[block.index]
            if owned is not None and block.occupied:
                block.allocation, self._owned[block.index], spare = spare.allocation, spare, owned
        self._allocator.release(spare)

    def give_back(self) -> None:
        """Give back each block as soon as it is out of use; idempotent."""
        for index in range(len(self._owned)):
            owned, self._owned[index] = self._owned[index], None
            if owned is not None:
                self._allocator.release(owned)
