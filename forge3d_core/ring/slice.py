"""The slices of a ring's blocks that are handed out to be written."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core import protocols
from forge3d_core.arguments import integer, shown
from forge3d_core.driver import Upload, UploadRows
from forge3d_core.errors import ForeignObject, OutOfRange, SliceSpent, UsageError
from forge3d_core.foreign import view_of
from forge3d_core.lifetime.hold import Hold
from forge3d_core.memory.allocator import Allocation, Owned
from forge3d_core.memory.resources import DeviceBuffer, DeviceTexture
from forge3d_core.memory.views import Loan
from forge3d_core.presentation import line, presents
from forge3d_core.protocols import Limits
from forge3d_core.ring.block import Block, Lent, Staged
from forge3d_core.units import align_up, format_bytes

NOTHING: NDArray[np.uint8] = np.empty(0, np.uint8)


class SliceHost(Protocol):
    """What a slice needs of its ring."""

    limits: Limits

    def check(self) -> None: ...

    def check_target(self, target: DeviceBuffer | DeviceTexture) -> None: ...

    def pin(self, allocations: Collection[Allocation], user: object) -> None: ...

    def spare(self, nbytes: int) -> Owned: ...

    def settle(self, block: Block, loan: Loan, staged: Staged | None = None) -> None: ...


@presents(protocols.StagingSlice, array="slice.view, or slice.array(dtype, shape)")
class Slice:
    """See :class:`forge3d_core.protocols.StagingSlice`."""

    def __init__(self, ring: SliceHost, block: Block, offset: int, nbytes: int) -> None:
        self.ring_index = block.index
        self.offset = offset
        self.nbytes = nbytes
        self._ring = ring
        self._block = block
        allocation, outstanding = block.allocation, block.outstanding
        whole = view_of(allocation.native)
        self._memory = whole[offset : offset + nbytes]
        self._loan: Loan | None = Loan(
            self._memory, writable=True, holds=allocation.holds, stale=allocation.stale
        )
        lent = Lent(weakref.ref(self), block.index, offset, nbytes)
        outstanding[self._loan.reached(outstanding.pop)] = lent

    def __repr__(self) -> str:
        place = f"staging slice of {format_bytes(self.nbytes)} at {self.offset} in block {self.ring_index}"
        return line(place, "spent" if self._loan is None else "open")

    @property
    def view(self) -> NDArray[np.uint8]:
        return self._lent().whole()

    def array(self, dtype: Any, shape: int | tuple[int, ...] | None = None) -> NDArray[Any]:
        return self._lent().array(dtype, shape)

    def commit(self, target: protocols.Buffer, offset: int = 0) -> None:
        self._lent()
        if not isinstance(target, DeviceBuffer):
            raise ForeignObject(f"{target!r} is not a buffer of this device; textures take commit_rows")
        self._ring.check_target(target)
        offset = integer("offset", offset)
        target.region(offset, self.nbytes)
        block = self._block
        self._commit(
            target.allocation,
            Upload(block.allocation.native, self.offset, target.memory, offset, self.nbytes),
        )

    def commit_rows(
        self,
        target: protocols.Texture,
        *,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        row_pitch: int | None = None,
    ) -> None:
        self._lent()
        if not isinstance(target, DeviceTexture):
            raise ForeignObject(f"{target!r} is not a texture of this device; buffers take commit")
        self._ring.check_target(target)
        origin, size = target.rectangle(origin, size)
        row, alignment = size[0] * target.format.block_bytes, self._ring.limits.row_pitch_alignment
        pitch = align_up(row, alignment) if row_pitch is None else integer("row_pitch", row_pitch)
        if pitch < row or pitch % alignment:
            raise UsageError(
                f"row_pitch {shown(pitch)} must be a multiple of {alignment} and hold a row of {row} bytes"
            )
        if size[1] and (size[1] - 1) * pitch + row > self.nbytes:
            raise OutOfRange(
                f"{size[1]} rows of pitch {shown(pitch)} do not fit in a slice of {self.nbytes} bytes"
            )
        if size[1] == 1:
            pitch = align_up(row, alignment)  # no second row, and an API may have a limit of its own
        native = self._block.allocation.native
        self._commit(
            target.allocation,
            UploadRows(native, self.offset, pitch, target.memory, origin, size) if all(size) else None,
        )

    def fill(self, write: Callable[[NDArray[np.uint8]], None]) -> None:
        """Have the ring's own code use the bytes, outside the loan; close leaves them while it does."""
        memory, user = self._memory, Hold()
        try:
            self._ring.pin([self._block.allocation], user)
            self._lent()  # another thread may have closed the ring, and emptied it, just before
            write(memory)
        finally:
            del user

    def release(self) -> None:
        if self._loan is not None:
            self._give_back(self._loan)

    def revoke(self) -> None:
        """Take the memory away, now; derived arrays keep it alive."""
        loan, self._loan = self._loan, None
        self._memory = NOTHING  # after the loan, for which fill looks once it has this
        if loan is not None:
            loan.surrender()

    def _commit(self, target: Allocation, command: Upload | UploadRows | None) -> None:
        loan = self._lent()
        if command is None:
            self._give_back(loan)
        elif loan.aliased(sys._getframe(2)):  # the program's call
            self._move(loan, target, command)
        else:
            staged = Staged(target, command, self.nbytes)
            self._ring.pin([target], staged)
            self._give_back(loan, staged)

    def _move(self, loan: Loan, target: Allocation, command: Upload | UploadRows) -> None:
        """Commit from memory that no alias reaches; what aliases reach stays theirs."""
        spare = self._ring.spare(self.nbytes)
        native = spare.allocation.native
        staged = Staged(target, attrs.evolve(command, block=native, block_offset=0), self.nbytes, spare)
        self._ring.pin([target, spare.allocation], staged)
        self.fill(partial(np.copyto, view_of(native)[: self.nbytes]))
        self._give_back(loan, staged)

    def _give_back(self, loan: Loan, staged: Staged | None = None) -> None:
        try:
            self._ring.settle(self._block, loan, staged)
        finally:
            if loan.over:
                self._loan = None
                self._memory = NOTHING  # a spent slice that is kept must not keep the block's memory

    def _lent(self) -> Loan:
        self._ring.check()
        if self._loan is None:
            raise SliceSpent(
                "this slice was committed or released; its memory belongs to the device now, allocate another"
            )
        return self._loan
