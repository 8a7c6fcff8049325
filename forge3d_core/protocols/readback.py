"""The readback pool: how results come home without stalling."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, Protocol, Self, TypedDict, Unpack, runtime_checkable

import attrs
from numpy.typing import NDArray

from forge3d_core.protocols.fence import FencePoint
from forge3d_core.protocols.memory import Buffer, Origin, Texture
from forge3d_core.protocols.pool import AsyncReadbackConfig, ReadbackStats


class ReadRegion(TypedDict, total=False):
    """What ``read`` takes of a buffer or a texture, as keywords of ``stream``."""

    offset: int
    nbytes: int | None
    dtype: Any
    shape: int | tuple[int, ...] | None
    origin: Origin
    size: Origin | None
    out: NDArray[Any] | None


ORIGIN: Origin = (0, 0)
"""Where a read of a texture begins by default."""


@attrs.frozen(eq=False)
class ReadRequest:
    """What one read is asked for: a source, and of it what ``read`` takes as keywords.

    An item of ``read_many``. It is checked when it is read, against the source as that is then.
    """

    source: Buffer | Texture
    offset: int = 0
    nbytes: int | None = None
    dtype: Any = None
    shape: int | tuple[int, ...] | None = None
    origin: Origin = ORIGIN
    size: Origin | None = None
    out: NDArray[Any] | None = None


class ReadArguments(ReadRegion, total=False):
    """All that ``read`` takes, as keywords of ``read_async``."""

    after: Iterable[FencePoint]


@runtime_checkable
class Lease(Protocol):
    """A zero-copy, read-only view of a read's bytes.

    Contract
        ``array`` shows the bytes in the pooled block itself and stays valid until ``release``; the
        block is not reused before, nor while an array derived from it or an alias is alive: then
        the pool takes another, within the budget. After release
        ``array`` raises :class:`StateError`.
    """

    @property
    def array(self) -> NDArray[Any]:
        """The bytes in the block, read-only, as the read's dtype and shape."""

    def release(self) -> None:
        """Give the block back, and empty the array; idempotent."""

    def __enter__(self) -> NDArray[Any]: ...

    def __exit__(self, *exc_info: object) -> None: ...


@runtime_checkable
class ReadbackHandle(Protocol):
    """One read on its way home.

    Contract
        ``wait`` and ``try_get`` return the same owned array every time. A handle that is dropped or
        cancelled gives its block back once the device is done with it. A read still pending when its
        pool closes ends with :class:`Cancelled`, when its device closes with :class:`Closed`, when
        the device is lost with :class:`DeviceLost`; complete ones keep their bytes.

    Thread-safety: any thread may wait; handles may be passed between threads.
    """

    @property
    def is_complete(self) -> bool:
        """Whether ``wait`` would return without waiting for the device."""

    @property
    def point(self) -> FencePoint:
        """When the device has finished the copy."""

    def wait(self, timeout: float | None = None) -> NDArray[Any]:
        """Return the bytes as an owned array (or the array given to ``read`` as ``out``)."""

    def try_get(self) -> NDArray[Any] | None:
        """Return what ``wait`` would, or None if it is not complete. Never blocks on the device."""

    def lease(self, timeout: float | None = None) -> Lease:
        """Return a zero-copy view once complete. Not after ``wait``, which has moved the bytes out:
        then the lease shows that owned array.

        A coroutine awaits ``point`` before, and then ``lease(0)`` does not wait.
        """

    def cancel(self) -> None:
        """Give up the bytes; ``wait`` then raises :class:`Cancelled`. Idempotent; too late is fine.

        Whoever waits or awaits already is told at once, though the device may still be at work.
        """

    def __await__(self) -> Generator[Any, None, NDArray[Any]]:
        """Like ``wait``, without blocking the running loop, of asyncio or trio."""


@runtime_checkable
class ReadbackStream(Protocol):
    """Frames of one source, of which only the latest matters.

    Contract
        ``push`` starts a read of the source as it is now and never blocks: where the pool has no
        room, as a copy in flight cannot be called back, it gives this frame up.
        ``latest`` returns the newest frame that has landed since the last call, or None. Frames
        given up, and frames passed over for a newer one, are counted as dropped. After the pool or
        the device was closed, or lost, it still returns a frame that had landed before, and then
        None: ``push`` is what tells.

    Thread-safety: one thread at a time.
    """

    @property
    def dropped_frames(self) -> int:
        """Frames given up, or passed over for a newer one."""

    def push(self, after: Iterable[FencePoint] = ()) -> bool:
        """Start a read; return False where the frame was dropped at once.

        Raises :class:`Closed` after the stream, its pool or its device was closed.
        """

    def latest(self) -> NDArray[Any] | None:
        """Return the newest frame that has landed since the last call, or None; never blocks."""

    def close(self) -> None:
        """Cancel what is in flight; idempotent. ``latest`` then returns None."""


@runtime_checkable
class AsyncReadbackStream(ReadbackStream, Protocol):
    """Frames of one source, of which only the latest matters; for coroutines as well.

    Streams of devices that the core assembles are; others need not be.
    """

    async def latest_async(self) -> NDArray[Any] | None:
        """Like ``latest``, but what is larger than 64 KiB is moved out of its block beside the loop.

        It does not wait for the device either. Cancelled, it leaves the frame to the next call.
        """


@runtime_checkable
class ReadbackPool(Protocol):
    """Pooled host-visible blocks that device memory is read into.

    Contract
        ``read`` returns at once (under *wait* backpressure: once a block is free) and reads the
        bytes as they are after all work submitted before it, whatever is submitted later. A block
        never shows another read's bytes. Never more than ``max_pending_ops`` reads hold a block.
        In the steady state nothing is allocated.

    Thread-safety: all methods may be called from any thread.
    """

    @property
    def config(self) -> AsyncReadbackConfig:
        """How it was asked to behave."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def read(
        self,
        source: Buffer | Texture,
        *,
        offset: int = 0,
        nbytes: int | None = None,
        dtype: Any = None,
        shape: int | tuple[int, ...] | None = None,
        origin: Origin = ORIGIN,
        size: Origin | None = None,
        out: NDArray[Any] | None = None,
        after: Iterable[FencePoint] = (),
    ) -> ReadbackHandle:
        """Start a read and return its handle.

        Of a buffer: ``nbytes`` from ``offset``, as ``dtype`` (default uint8) and ``shape`` (default
        1-d). ``shape`` with ``dtype`` gives ``nbytes`` where that is left out. Of a texture: ``size``
        texels (width, height) from ``origin``, as an array (height, width[, channels]) of the format's
        dtype, with the rows' padding removed; another ``dtype`` is refused. ``out``, writable and of
        exactly the right bytes, receives the data when the handle completes, and is what ``wait``
        returns; it has the dtype of a texture's format, or the one that was named, else any. It may
        have gaps, or another order than C's, where the backend copies to such arrays; one that it
        does not is refused, and so is one whose items share memory.

        What is larger than the budget may come piece by piece, and then is complete when ``read`` returns;
        a pool with *raise* backpressure refuses it. Work that other threads submit meanwhile may write to
        the source between two pieces.

        An empty region gives a complete handle with an empty array. Raises :class:`OutOfRange`,
        :class:`UsageError` for a dtype or shape that does not fit, :class:`Busy`.
        """

    async def read_async(self, source: Buffer | Texture, **region: Unpack[ReadArguments]) -> ReadbackHandle:
        """Like ``read``, but a wait for a free block does not block the running loop."""

    def stream(self, source: Buffer | Texture, **region: Unpack[ReadRegion]) -> ReadbackStream:
        """Return a reader that wants only the latest bytes of ``source``; ``region`` as in ``read``."""

    def stats(self) -> ReadbackStats:
        """Return its figures, all of one instant; works after close."""

    def close(self) -> None:
        """Cancel what is pending, give the blocks back when the device is done; idempotent.

        Completed handles keep what they have; leases stay valid until released.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...


WantedRead = Buffer | Texture | ReadRequest | tuple[Buffer | Texture, ReadRegion]
"""An item of ``read_many``."""


@runtime_checkable
class BatchingPool(ReadbackPool, Protocol):
    """A pool that starts several reads in one call.

    Pools of devices that the core assembles are; others need not be.
    """

    def read_many(
        self,
        reads: Iterable[WantedRead],
        after: Iterable[FencePoint] = (),
    ) -> Sequence[ReadbackHandle]:
        """Start many reads in one submission and return their handles, in order: all start, or none.

        An item is a source, a pair of a source and what ``read`` takes as keywords, or a
        :class:`ReadRequest`. The reads lie behind each other in one block, of ``buffer_size`` or what they
        need together, and count as one of ``max_pending_ops`` until the last of them is over: many small
        results cost one map or one event. Each handle is otherwise like one of ``read``. Raises as ``read``
        does, and :class:`WrongType` for an item of another kind.
        """

    async def read_many_async(
        self,
        reads: Iterable[WantedRead],
        after: Iterable[FencePoint] = (),
    ) -> Sequence[ReadbackHandle]:
        """Like ``read_many``, but a wait for a free block does not block the running loop."""
