"""The slices of a ring's blocks that are handed out to be written."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core import protocols
from forge3d_core.arguments import integer, shown
from forge3d_core.concurrency.threads import CALLING
from forge3d_core.driver import Memory, Upload, UploadRows
from forge3d_core.errors import ForeignObject, OutOfRange, SliceSpent, UsageError, copy_exception
from forge3d_core.foreign import view_of
from forge3d_core.formats import block_rows, row_bytes
from forge3d_core.lifetime.hold import Hold
from forge3d_core.lifetime.life import Life
from forge3d_core.memory.allocator import Allocation
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.memory.textures import DeviceTexture
from forge3d_core.memory.views import Loan
from forge3d_core.presentation import line, presents
from forge3d_core.protocols import Limits
from forge3d_core.ring.block import Block, Lent, Phase, Staged, StagingCommand
from forge3d_core.ring.block_set import BlockSet
from forge3d_core.ring.state import RingState
from forge3d_core.ring.waiting import Waiting
from forge3d_core.transfer.moving import MOVER
from forge3d_core.units import align_up, format_bytes


class SliceHost(Protocol):
    """What a slice needs of its ring."""

    life: Life
    limits: Limits
    state: RingState
    waiting: Waiting
    memory: BlockSet

    def check_target(self, target: DeviceBuffer | DeviceTexture) -> None: ...

    def staged(self, block: Block, target: Allocation, memory: Memory) -> Staged: ...

    def pin(self, block: Block, user: object) -> None: ...

    def proceed(self) -> None: ...


@presents(protocols.StagingSlice, array="slice.view, or slice.array(dtype, shape)")
class Slice:
    """See :class:`forge3d_core.protocols.StagingSlice`.

    It is spent once its block does not know it as outstanding. What the block knows is gone with
    ``_token``, which the loan of its memory keeps for it once that was shown: then it is outstanding until
    nothing reaches the memory.
    """

    __slots__ = (
        "__weakref__",
        "_block",
        "_lent",
        "_loan",
        "_ring",
        "_token",
        "nbytes",
        "offset",
        "ring_index",
    )

    def __init__(self, ring: SliceHost, nbytes: int, block: Block, offset: int) -> None:
        """Make the slice of a place that the ring's state has found; the ring's lock is held."""
        self.ring_index = index = block.index
        self.offset = offset
        self.nbytes = nbytes
        self._ring = ring
        self._block = block
        self._loan: Loan | None = None  # once the memory was shown
        token = Hold()
        self._token: Hold | None = token
        outstanding = block.outstanding
        self._lent = lent = Lent(token, outstanding.discard)
        lent.slice, lent.thread = weakref.ref(self), CALLING.thread
        lent.block, lent.offset, lent.nbytes = index, offset, nbytes
        outstanding.add(lent)

    def __repr__(self) -> str:
        place = f"staging slice of {format_bytes(self.nbytes)} at {self.offset} in block {self.ring_index}"
        return line(place, "open" if self._lent in self._block.outstanding else "spent")

    @property
    def view(self) -> NDArray[np.uint8]:
        return self._shown().whole()

    def array(self, dtype: Any, shape: int | tuple[int, ...] | None = None) -> NDArray[Any]:
        return self._shown().array(dtype, shape)

    def commit(self, target: protocols.Buffer, offset: int = 0) -> None:
        ring, block, nbytes = self._ring, self._block, self.nbytes
        if ring.life.ended is not None or self._lent not in block.outstanding:
            self._check()  # which raises
        if not isinstance(target, DeviceBuffer):
            raise ForeignObject(f"{target!r} is not a buffer of this device; textures take commit_rows")
        ring.check_target(target)
        if type(offset) is not int:
            offset = integer("offset", offset)
        if offset < 0 or offset + nbytes > target.nbytes:
            target.region(offset, nbytes)  # which raises
        command = Upload(block.allocation.native, self.offset, target.memory, offset, nbytes)
        waiting = ring.waiting
        if self._loan is not None:
            self._commit_shown(self._loan, target.allocation, command, sys._getframe(1))
        else:
            with waiting.lock:
                staged = ring.staged(block, target.allocation, target.memory)
                ring.state.commit(block, self._lent, command, staged, nbytes)
        if block.phase is Phase.SEALED or waiting.line or waiting.asleep:
            ring.proceed()

    def commit_rows(
        self,
        target: protocols.Texture,
        *,
        origin: protocols.Origin = (0, 0),
        size: protocols.Origin | None = None,
        row_pitch: int | None = None,
    ) -> None:
        self._check()
        if not isinstance(target, DeviceTexture):
            raise ForeignObject(f"{target!r} is not a texture of this device; buffers take commit")
        ring, block = self._ring, self._block
        ring.check_target(target)
        (x, y, z), (width, height, slices) = place, extent = target.box(origin, size)
        row, alignment = row_bytes(width, target.format), ring.limits.row_pitch_alignment
        pitch = align_up(row, alignment) if row_pitch is None else integer("row_pitch", row_pitch)
        if pitch < row or pitch % alignment:
            raise UsageError(
                f"row_pitch {shown(pitch)} must be a multiple of {alignment} and hold a row of {row} bytes"
            )
        rows = block_rows(height, target.format) * slices
        if rows and (rows - 1) * pitch + row > self.nbytes:
            raise OutOfRange(
                f"{rows} rows of pitch {shown(pitch)} do not fit in a slice of {self.nbytes} bytes"
            )
        if not all(extent):
            self.release()
            return
        target.writable(place, extent)
        if rows == 1:
            pitch = align_up(row, alignment)  # no second row, and an API may have a limit of its own
        native, size = block.allocation.native, (width, height)
        command = UploadRows(native, self.offset, pitch, target.memory, (x, y), size, z, slices)
        self._commit_shown(self._loan, target.allocation, command, sys._getframe(1))
        ring.proceed()

    def fill(self, write: Callable[[NDArray[np.uint8]], object]) -> None:
        """Have the ring's own code use the bytes, outside the loan; close leaves them while it does."""
        ring, block, user = self._ring, self._block, Hold()
        try:
            with ring.waiting.lock:
                self._check()
                ring.pin(block, user)
                memory = view_of(block.allocation.native)[self.offset : self.offset + self.nbytes]
            write(memory)
        finally:
            memory = None  # type: ignore[assignment]  # not left to the frame, which an error keeps
            del user

    def release(self) -> None:
        block, ring = self._block, self._ring
        if self._lent in block.outstanding:
            with ring.waiting.lock:
                if self._loan is not None:
                    self._loan.take_back()
                ring.state.release(block, self._lent)
            ring.proceed()

    def revoke(self) -> None:
        """Take the memory away, now; derived arrays keep it alive."""
        loan, self._token = self._loan, None
        if loan is not None:
            loan.surrender()

    def _commit_shown(
        self, loan: Loan | None, target: Allocation, command: StagingCommand, caller: FrameType
    ) -> None:
        """Commit memory that arrays were made of: empty them, and move the bytes out of an alias's reach.

        A commit that is refused changes nothing, so all that may refuse it comes before the first change.
        """
        ring, block, spare = self._ring, self._block, None
        if loan is not None and loan.aliased(caller):
            spare = ring.memory.spare(self.nbytes)
            native = spare.allocation.native
            self.fill(lambda memory: MOVER.copy(view_of(native)[: self.nbytes], memory))
            command = attrs.evolve(command, block=native, block_offset=0)
        with ring.waiting.lock:
            staged = ring.staged(block, target, command.target)
            if loan is not None:
                loan.take_back()
            if spare is not None:
                block.spares += [spare]
            ring.state.commit(block, self._lent, command, staged, self.nbytes)

    def _shown(self) -> Loan:
        """Return the loan of the memory, made when it is first asked for."""
        block = self._block
        with self._ring.waiting.lock:  # a ring that closes takes back what was lent before
            self._check()
            if self._loan is None:
                allocation, start = block.allocation, self.offset
                memory = view_of(allocation.native)[start : start + self.nbytes]
                assert self._token is not None
                loan = Loan(
                    memory,
                    writable=True,
                    holds=allocation.holds,
                    stale=allocation.stale,
                    token=self._token,
                )
                self._loan, self._token = loan, None
            return self._loan

    def _check(self) -> None:
        if (ended := self._ring.life.ended) is not None:
            raise copy_exception(ended)
        if self._lent not in self._block.outstanding:
            raise SliceSpent(
                "this slice was committed or released; its memory belongs to the device now, allocate another"
            )
