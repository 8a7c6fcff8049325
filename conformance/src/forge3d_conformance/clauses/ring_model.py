"""What a ring should do, without memory or a device."""

from __future__ import annotations

from collections import deque
from typing import Literal

import attrs

from forge3d_core.protocols import RingStats


@attrs.define(eq=False)
class ModelBlock:
    """One block: open for slices, left behind with slices still open, or in flight."""

    index: int
    state: Literal["open", "left", "in flight"] = "open"
    cursor: int = 0
    staged: int = 0
    slices: int = 0


@attrs.define(eq=False)
class RingModel:
    """A ring whose work completes only when :meth:`complete` says so.

    A request that does not fit leaves the block; a block that was left is submitted, in ring order, as
    soon as no slice of it is open.
    """

    ring_count: int
    buffer_size: int
    alignment: int
    blocks: list[ModelBlock] = attrs.field(init=False)
    index: int = 0
    stalls: int = 0
    allocations: int = 0
    bytes_staged: int = 0
    submissions: int = 0
    _left: deque[ModelBlock] = attrs.field(init=False, factory=deque)

    def __attrs_post_init__(self) -> None:
        self.blocks = [ModelBlock(index) for index in range(self.ring_count)]

    def allocate(self, nbytes: int) -> tuple[int, int] | None:
        """Return the block's index and the offset in it, or None."""
        block = self.blocks[self.index]
        start = -(-block.cursor // self.alignment) * self.alignment
        if block.state == "open" and start + nbytes > self.buffer_size:
            following = self.blocks[(self.index + 1) % self.ring_count]
            if following is not block and following.state == "open":
                self._leave(block)
                block, start = following, 0
            else:
                start = -1
        if block.state != "open" or start < 0:
            self.stalls += 1
            return None
        block.cursor = start + nbytes
        block.slices += 1
        self.allocations += 1
        return block.index, start

    def commit(self, index: int, nbytes: int) -> None:
        block = self.blocks[index]
        block.slices -= 1
        block.staged += nbytes
        self.bytes_staged += nbytes
        self._submit()

    def advance(self) -> None:
        block = self.blocks[self.index]
        if block.state == "open" and block.cursor:
            self._leave(block)

    def complete(self) -> None:
        """The device has finished everything that was submitted."""
        for block in self.blocks:
            if block.state == "in flight":
                self._empty(block)

    def stats(self) -> RingStats:
        return RingStats(
            ring_count=self.ring_count,
            buffer_size=self.buffer_size,
            current_ring_index=self.index,
            bytes_in_flight=sum(block.staged for block in self.blocks if block.state == "in flight"),
            buffer_stalls=self.stalls,
            allocations=self.allocations,
            bytes_staged=self.bytes_staged,
            submissions=self.submissions,
        )

    def _leave(self, block: ModelBlock) -> None:
        block.state = "left"
        self._left.append(block)
        self.index = (block.index + 1) % self.ring_count
        self._submit()

    def _submit(self) -> None:
        while self._left and not self._left[0].slices:
            block = self._left.popleft()
            if block.staged:
                block.state = "in flight"
                self.submissions += 1
            else:
                self._empty(block)

    def _empty(self, block: ModelBlock) -> None:
        block.state, block.cursor, block.staged = "open", 0, 0
