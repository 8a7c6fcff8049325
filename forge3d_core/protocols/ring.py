"""The staging ring: how bytes get to the device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, Self, runtime_checkable

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from forge3d_core.presentation import Figures, counted, line
from forge3d_core.protocols.fence import FencePoint
from forge3d_core.protocols.memory import Buffer, Origin, Texture
from forge3d_core.units import format_bytes


@attrs.frozen
class RingStats(Figures):
    """A snapshot of a ring; counts since it was made. Source: the staging-ring guide (O1)."""

    ring_count: int
    buffer_size: int
    current_ring_index: int
    bytes_in_flight: int  # submitted and, when asked, not yet complete
    buffer_stalls: int  # allocations that found the ring full; a reserve counts as its wait begins
    allocations: int
    bytes_staged: int  # committed since the ring was made
    submissions: int

    def __repr__(self) -> str:
        return line(
            f"ring stats: block {self.current_ring_index} of {self.ring_count} x "
            f"{format_bytes(self.buffer_size)}",
            f"{format_bytes(self.bytes_in_flight)} in flight",
            counted(self.buffer_stalls, "stall"),
            counted(self.allocations, "allocation"),
            f"{format_bytes(self.bytes_staged)} staged",
            counted(self.submissions, "submission"),
        )


@runtime_checkable
class StagingSlice(Protocol):
    """A run of host-visible bytes to write, then commit once.

    Contract
        ``view`` and ``array`` are writable memory, not a copy. ``commit`` takes them back: from then
        on ``view`` raises :class:`SliceSpent`, and every array that the slice handed out is empty
        and read-only, so a late write raises instead of reaching the device. An array *derived* from
        one (a reshape, a slice) that is still alive makes ``commit`` raise :class:`ViewHeld` and
        change nothing; ask ``array`` for the shape you want and nothing need be derived. An alias that
        numpy does not count (a memoryview, a ctypes or DLPack object) is not refused, and its memory
        is used for nothing else as long as it lives: where more than local variables of the calls
        that ``commit`` is made from refers to the arrays, it copies the bytes to other memory, within
        the budget (else :class:`ViewHeld`), so that a late write reaches nothing.

    Thread-safety: one thread at a time; a slice may be handed to another thread.
    """

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""

    @property
    def offset(self) -> int:
        """Where it starts in its block."""

    @property
    def ring_index(self) -> int:
        """Which block of the ring it lies in."""

    @property
    def view(self) -> NDArray[np.uint8]:
        """All ``nbytes`` as a 1-d array. Write only: its memory may be slow to read."""

    def array(self, dtype: Any, shape: int | tuple[int, ...] | None = None) -> NDArray[Any]:
        """The same memory as ``dtype`` and ``shape`` (default: as many as fit, 1-d)."""

    def commit(self, target: Buffer, offset: int = 0) -> None:
        """Record the copy of all ``nbytes`` to ``target`` at ``offset``; it is submitted by ``advance``.

        Raises :class:`OutOfRange`, :class:`ViewHeld`, :class:`SliceSpent`, and the failure of earlier
        work on ``target``, after which nothing can be ordered any more; after an error the slice is
        as before. That something could not be submitted is for ``advance`` to say.
        """

    def commit_rows(
        self,
        target: Texture,
        *,
        origin: Origin = (0, 0),
        size: Origin | None = None,
        row_pitch: int | None = None,
    ) -> None:
        """Record the copy of rows to a texture; ``row_pitch`` is the bytes from row to row in the slice.

        The pitch defaults to the row's bytes rounded up to ``limits.row_pitch_alignment``.
        """

    def release(self) -> None:
        """Give an uncommitted slice back unused; idempotent."""


@runtime_checkable
class StagingRing(Protocol):
    """``ring_count`` blocks of ``buffer_size`` host-visible bytes, handed out in order.

    Contract
        Live slices never overlap and start at ``limits.staging_alignment``. A block comes back into
        use when the device has finished with what was staged in it, never before, and then it does.
        When a request does not fit in the current block the ring moves on by itself; when the next
        block is still in flight the ring is full: ``allocate`` returns None at once, changes nothing
        but the stall count, and ``reserve`` waits. More than ``buffer_size`` can never fit in one
        slice: :class:`TooLarge`. ``upload`` takes any size. A block whose arrays are still referred to
        when it comes round gets other memory, within the budget: else ``allocate`` returns None, and
        ``reserve`` and ``upload`` raise :class:`BudgetExhausted`.

    Thread-safety: all methods may be called from any thread; ``reserve`` is first come, first served.
    """

    @property
    def ring_count(self) -> int:
        """How many blocks there are."""

    @property
    def buffer_size(self) -> int:
        """Bytes of each block, and of the largest slice."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def allocate(self, nbytes: int) -> StagingSlice | None:
        """Return a slice of ``nbytes`` (from 1), or None when the ring is full."""

    def reserve(self, nbytes: int, timeout: float | None = None) -> StagingSlice:
        """Like ``allocate``, but wait for room; raises :class:`FenceTimeout` after ``timeout`` seconds."""

    def advance(self, timeout: float | None = None) -> FencePoint:
        """Submit what was committed, move to the next block, and return the point that covers it all.

        The point covers everything committed to this ring so far. With nothing committed nothing is
        submitted. Slices that another thread has, allocated there or handed to it, are waited for; one
        that only the calling thread has raises :class:`SliceOutstanding`, as waiting for it would never
        end, and so does a ``reserve`` that would wait for one. Where work on a
        target fails between commit and submission, its copies are dropped, all others are submitted,
        and the failure is raised once.
        """

    def upload(
        self,
        data: ArrayLike,
        target: Buffer | Texture,
        offset: int = 0,
        *,
        origin: Origin = (0, 0),
        timeout: float | None = None,
    ) -> FencePoint:
        """Stage and submit an array of any size, in chunks that overlap with the device's copies.

        ``offset`` (bytes) applies to buffers, ``origin`` (texels) to textures; a texture takes an
        array of shape (rows, columns) or (rows, columns, channels) of the format's dtype, in this
        machine's byte order; another kind, size or order is refused, as a ``.view`` would say it
        better. A buffer has no dtype: it takes the bytes of any array as they are, and bytes-like
        objects. The caller may overwrite ``data`` as soon as the call returns. What is empty submits
        nothing. Raises :class:`OutOfRange`, :class:`UsageError` for data that has no bytes (objects,
        text) or hides some (a masked array), and :class:`SliceOutstanding` while the calling thread
        has an open slice of this ring.
        """

    def stats(self) -> RingStats:
        """Return its figures, all of one instant; works after close."""

    def close(self) -> None:
        """Submit what is committed, give the blocks back when the device is done; idempotent.

        Slices that were not committed are released. Afterwards every method but ``stats`` and
        ``close`` raises :class:`Closed`.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


WantedUpload = tuple[ArrayLike, Buffer | Texture] | tuple[ArrayLike, Buffer | Texture, int]
"""An item of ``upload_many``: the data, the target, and the offset in a buffer, by default 0."""


@runtime_checkable
class BatchingRing(StagingRing, Protocol):
    """A ring that takes several uploads in one call.

    Rings of devices that the core assembles are; others need not be.
    """

    def upload_many(self, uploads: Iterable[WantedUpload], *, timeout: float | None = None) -> FencePoint:
        """Stage arrays one after the other, submit them together, and return the point that covers them all.

        Each upload is (data, target) or (data, target, offset), with data, target and offset as for
        ``upload``; a texture is written from its origin. Where all of them fit into blocks that are free
        they are one submission. All are checked before the first is staged: a call that is refused has
        changed nothing. Raises as ``upload`` does.
        """


@runtime_checkable
class AsyncRing(BatchingRing, Protocol):
    """A ring for coroutines, under asyncio and trio.

    Rings of devices that the core assembles are; others need not be. Coroutines stand in one line with
    the threads that wait, and a wait uses no thread. No more than 64 KiB are copied on the loop's thread:
    workers copy the rest. Cancelled at any await, a call gives back all that it had, once no worker reads
    its source (that takes no longer than the copy of one part); what it had committed stays so. As a slice
    in the way may be another task's of the same thread, none is refused by :class:`SliceOutstanding`: a
    task that waits for a slice of its own waits until its timeout.

    ``async with`` closes the ring on a thread of its own, and waits for that, cancelled or not.

    Thread-safety: any loop of any thread.
    """

    async def reserve_async(self, nbytes: int, timeout: float | None = None) -> StagingSlice:
        """Do what ``reserve`` does, and let the loop's other tasks run while it waits."""

    async def advance_async(self, timeout: float | None = None) -> FencePoint:
        """Do what ``advance`` does; slices of other tasks are waited for, too."""

    async def upload_async(
        self,
        data: ArrayLike,
        target: Buffer | Texture,
        offset: int = 0,
        *,
        origin: Origin = (0, 0),
        timeout: float | None = None,
    ) -> FencePoint:
        """Do what ``upload`` does; ``data`` may be overwritten once it has returned, and not before.

        What goes wrong in a copy is raised here. Uploads of one ring that are large follow each other.
        """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...
