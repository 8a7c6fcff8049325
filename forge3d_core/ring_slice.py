"""A ring's blocks, and the slices of them that are handed out to be written."""

from __future__ import annotations

import enum
import threading
from collections import deque
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core import protocols
from forge3d_core.driver import Command, Upload, UploadRows
from forge3d_core.errors import ForeignObject, OutOfRange, SliceSpent, UsageError, again
from forge3d_core.memory import Allocation, DeviceBuffer, DeviceTexture
from forge3d_core.protocols import FencePoint, Limits
from forge3d_core.units import align_up
from forge3d_core.views import Loan


class State(enum.Enum):
    """Where a block is in its round."""

    OPEN = "open"  # takes slices; a block nobody uses is open and empty
    SEALED = "sealed"  # takes no more, and is submitted once its last slice is committed
    FENCED = "fenced"  # the device reads it


@attrs.define(eq=False)
class Block:
    """One of the ring's blocks."""

    index: int
    allocation: Allocation
    state: State = State.OPEN
    cursor: int = 0
    staged: int = 0
    commands: list[Command] = attrs.field(factory=list)
    targets: dict[Allocation, None] = attrs.field(factory=dict)
    outstanding: dict[object, threading.Thread] = attrs.field(factory=dict)  # slice key: who allocated it
    point: FencePoint | None = None

    def reset(self) -> None:
        """Take the block back into use, empty."""
        self.state, self.cursor, self.staged, self.point = State.OPEN, 0, 0, None
        self.commands, self.targets = [], {}

    def in_flight(self) -> bool:
        """Whether the device may still read it. Raises the failure of a lane that will never say."""
        if self.state is not State.FENCED or self.point is None:
            return False
        if self.point.done:
            return False
        if (failure := self.point.timeline.failure) is not None:
            raise again(failure)
        return True


class SliceHost(Protocol):
    """What a slice needs of its ring."""

    limits: Limits
    abandoned: deque[tuple[Block, object]]

    def check(self) -> None: ...

    def check_target(self, target: DeviceBuffer | DeviceTexture) -> None: ...

    def pin(self, target: Allocation, key: object) -> None: ...

    def unpin(self, target: Allocation, key: object) -> None: ...

    def settle(
        self, block: Block, key: object, nbytes: int, command: Command | None, target: Allocation | None
    ) -> None: ...


class Slice:
    """See :class:`forge3d_core.protocols.StagingSlice`."""

    def __init__(self, ring: SliceHost, block: Block, offset: int, nbytes: int) -> None:
        self.ring_index = block.index
        self.offset = offset
        self.nbytes = nbytes
        self._ring = ring
        self._block = block
        self.key = object()
        holds, abandoned = block.allocation.holds, ring.abandoned

        def gone() -> None:  # a slice that is dropped must not keep its block from being submitted
            abandoned.append((block, key))
            holds.discard(key)

        key = self.key
        holds.add(key)
        whole: NDArray[np.uint8] = block.allocation.native.view()
        # The bytes themselves, outside the loan: for copies by the ring's own code.
        self.memory = whole[offset : offset + nbytes]
        self._loan: Loan | None = Loan(self.memory, writable=True, gone=gone)
        self._view: NDArray[np.uint8] | None = None

    @property
    def view(self) -> NDArray[np.uint8]:
        loan = self._lent()
        if self._view is None:
            self._view = loan.array()
        return self._view

    def array(self, dtype: Any, shape: int | tuple[int, ...] | None = None) -> NDArray[Any]:
        return self._lent().array(dtype, shape)

    def commit(self, target: protocols.Buffer, offset: int = 0) -> None:
        self._lent()
        if not isinstance(target, DeviceBuffer):
            raise ForeignObject(f"{target!r} is not a buffer of this device; textures take commit_rows")
        self._ring.check_target(target)
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
        size = (target.width - origin[0], target.height - origin[1]) if size is None else size
        target.region(origin, size)
        row, alignment = size[0] * target.format.block_bytes, self._ring.limits.row_pitch_alignment
        pitch = align_up(row, alignment) if row_pitch is None else row_pitch
        if pitch < row or pitch % alignment:
            raise UsageError(
                f"row_pitch {pitch} must be a multiple of {alignment} and hold a row of {row} bytes"
            )
        if size[1] and (size[1] - 1) * pitch + row > self.nbytes:
            raise OutOfRange(f"{size[1]} rows of pitch {pitch} do not fit in a slice of {self.nbytes} bytes")
        native = self._block.allocation.native
        self._commit(
            target.allocation,
            UploadRows(native, self.offset, pitch, target.memory, origin, size) if all(size) else None,
        )

    def release(self) -> None:
        if self._loan is not None:
            self._take_back(self._loan)
            self._ring.settle(self._block, self.key, 0, None, None)

    def revoke(self) -> None:
        """Take the memory away because the device closes; derived arrays keep the block alive."""
        loan, self._loan, self._view = self._loan, None, None
        if loan is not None:
            loan.surrender()

    def _commit(self, target: Allocation, command: Command | None) -> None:
        # Closing the target from now on must not take it from under a copy that waits for advance.
        self._ring.pin(target, self.key)
        try:
            self._take_back(self._lent())
            self._ring.settle(self._block, self.key, self.nbytes, command, target)
        finally:
            self._ring.unpin(target, self.key)

    def _take_back(self, loan: Loan) -> None:
        loan.take_back()
        self._loan = self._view = None
        self._block.allocation.holds.discard(self.key)

    def _lent(self) -> Loan:
        self._ring.check()
        if self._loan is None:
            raise SliceSpent(
                "this slice was committed or released; its memory belongs to the device now, allocate another"
            )
        return self._loan
