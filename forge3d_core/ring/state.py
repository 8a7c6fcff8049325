"""What a staging ring decides: plain data, stepped by one caller at a time, who does what it returns."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from forge3d_core.driver import Upload
from forge3d_core.memory.allocator import Allocation
from forge3d_core.protocols import FencePoint
from forge3d_core.ring.block import Block, Lent, Phase, Staged, StagingCommand
from forge3d_core.transfer.upload import Flight


@attrs.define(eq=False)
class RingState:
    """The blocks of a ring, in a circle, and the counts of what went through them.

    Slices are placed in the *current* block. One that is too full is sealed, and the next is current.
    Sealed blocks are submitted in ring order, each once none of its slices is outstanding. A block that is
    in flight takes slices again once its point is done.

    Each method is one step (record 20), or what it has changed by any moment stands for itself.

    Thread-safety: none; the ring's lock guards it.
    """

    size: int
    alignment: int
    blocks: list[Block]
    index: int = 0  # of the current block
    sealed: list[Block] = attrs.field(factory=list)  # in ring order
    last: FencePoint | None = None  # of the newest submission
    stalls: int = 0
    allocated: int = 0
    staged: int = 0
    submissions: int = 0
    flights: list[Flight] = attrs.field(factory=list)  # of large uploads, which go beside the blocks

    def place(self, nbytes: int, eager: bool = False) -> tuple[Block, int | None]:
        """Take room for ``nbytes``: the block and the offset, or None beside the block that is in the way.

        That is in flight or sealed, or :attr:`Block.occupied`; else the one block of a ring is too full.
        ``eager``: seal the current block if it is too full, though there is no room in the next.
        """
        block = self.blocks[self.index]
        if block.phase is not Phase.OPEN:
            return block, None
        memory = block.allocation
        if not block.cursor and (memory.holds or memory.stale):
            return block, None
        start = -(-block.cursor // self.alignment) * self.alignment
        if start + nbytes > self.size:
            following = self.blocks[(self.index + 1) % len(self.blocks)]
            free = following is not block and following.phase is Phase.OPEN and not following.occupied
            if free or eager:
                self.seal()
            if not free:
                return following, None
            block, start = following, 0
        block.cursor = start + nbytes
        self.allocated += 1
        return block, start

    def seal(self) -> None:
        """Have the current block take no more slices, and go on to the next, if there is anything in it."""
        block = self.blocks[self.index]
        if block.phase is Phase.OPEN and block.cursor:
            following = (block.index + 1) % len(self.blocks)
            block.phase, self.index = Phase.SEALED, following
            self.sealed += [block]

    def commit(
        self, block: Block, lent: Lent | None, command: StagingCommand, staged: Staged, nbytes: int
    ) -> None:
        """Note the copy that a slice asks for, and that the slice is none any more.

        It goes on where the last one ended, in the block and in the target, if it can: then the two are one.
        """
        commands = block.commands
        last = commands[-1] if commands else None
        if (
            type(last) is Upload
            and type(command) is Upload
            and last.target is command.target
            and last.offset + last.nbytes == command.offset
            and last.block is command.block
            and last.block_offset + last.nbytes == command.block_offset
        ):
            last.nbytes += command.nbytes
        else:
            commands += [command]
        block.targets[command.target] = staged
        staged.nbytes += nbytes
        block.staged += nbytes
        self.staged += nbytes
        block.outstanding -= {lent}

    def release(self, block: Block, lent: Lent) -> None:
        """Note that a slice is none any more, and asks for nothing."""
        block.outstanding -= {lent}

    def due(self) -> list[Block]:
        """Return the blocks to submit, in order: those that are sealed, up to the first with open slices."""
        count = 0
        for block in self.sealed:
            if block.outstanding:
                break
            count += 1
        return self.sealed[:count]

    def submitted(self, blocks: Collection[Block], point: FencePoint | None) -> None:
        """Note that ``blocks``, which were due, were submitted together; no point: none had a copy.

        A block that is not seen as submitted is submitted again, which changes no byte.
        """
        if point is not None:
            self.last, self.submissions = point, self.submissions + 1
        for block in blocks:
            if block.commands:
                block.phase, block.point, block.flying = Phase.IN_FLIGHT, point, block.staged
            else:
                block.phase, block.cursor = Phase.OPEN, 0
            block.commands, block.targets, block.spares, block.staged = [], {}, [], 0
            del self.sealed[0]

    def flew(self, flights: list[Flight]) -> None:
        """Note what a large upload submitted, all of it in flight perhaps."""
        if flights:
            nbytes = sum(flight.nbytes for flight in flights)
            rest = [flight for flight in self.flights if not flight.point.done]
            newest = flights[-1].point
            last = newest if self.last is None or self.last.value < newest.value else self.last
            self.flights, self.last = rest + flights, last
            self.staged, self.submissions = self.staged + nbytes, self.submissions + len(flights)

    def complete(self, block: Block, point: FencePoint) -> None:
        """Take a block back into use, empty, if it is still ``point`` that it is in flight for."""
        if block.point is point:
            block.phase, block.cursor, block.point, block.flying = Phase.OPEN, 0, None, 0

    def drop(self, blocks: Collection[Block], refused: Collection[Allocation]) -> None:
        """Forget the copies to these targets."""
        for block in blocks:
            targets = {key: each for key, each in block.targets.items() if each.allocation not in refused}
            commands = [command for command in block.commands if command.target in targets]
            staged = sum(each.nbytes for each in targets.values())
            block.commands, block.targets, block.staged = commands, targets, staged

    def forget(self) -> None:
        """Forget all that was committed and not submitted."""
        for block in self.blocks:
            block.commands, block.targets, block.spares, block.staged = [], {}, [], 0
