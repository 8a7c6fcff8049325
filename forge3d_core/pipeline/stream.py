"""Frames that go up, are worked on and come home, consecutive ones overlapping."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Self, Unpack, cast

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from forge3d_core.arguments import at_least, shown
from forge3d_core.errors import UsageError
from forge3d_core.pipeline.coordinator import lane_of
from forge3d_core.presentation import line
from forge3d_core.protocols import (
    AsyncReadbackConfig,
    AsyncRing,
    Buffer,
    CommandList,
    Device,
    Into,
    Kernel,
    ReadbackHandle,
    StreamOptions,
    Work,
)
from forge3d_core.units import KIB, MIB

DEFAULT_DEPTH = 3
"""One frame comes, one is worked on, one leaves."""

MIN_BLOCK, MAX_BLOCK = 4 * KIB, MIB
"""Of the staging ring: no larger than a frame needs, as memory may be short."""


@attrs.define(eq=False)
class _Slot:
    """The buffers of one frame in flight."""

    source: Buffer
    target: Buffer


@attrs.frozen(eq=False)
class _Plan:
    """How frames become results."""

    record: Work
    in_place: bool  # the result takes the place of its frame
    depth: int
    result: tuple[Any, tuple[int, ...]] | None
    into: Into | None
    progress: Callable[[int], object] | None


class FrameStream(Iterator[NDArray[Any]], AsyncIterator[NDArray[Any]]):
    """The results of frames, in their order; see :func:`stream`."""

    def __init__(
        self, device: Device, frames: Iterable[ArrayLike] | AsyncIterable[ArrayLike], plan: _Plan
    ) -> None:
        self._device = device
        self._frames: Iterator[ArrayLike] | None = None
        self._later: AsyncIterator[ArrayLike] | None = None
        if isinstance(frames, AsyncIterable):
            self._later = aiter(frames)
        if self._later is None or isinstance(frames, Iterable):
            self._frames = iter(cast(Iterable[ArrayLike], frames))
        self._plan = plan
        self._own = contextlib.ExitStack()
        self._slots: list[_Slot] = []
        self._flying: deque[tuple[int, ReadbackHandle]] = deque()
        self._nbytes = self._begun = self._ended = 0
        self._failure: Exception | None = None  # of the frame that could not be begun
        self._over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> NDArray[Any]:
        self._fill()
        if not self._flying:
            self._raise_failure()
            raise StopIteration
        index, handle = self._flying.popleft()
        with self._ending(index):
            result = handle.wait()
            self._ended += 1
            self._fill()  # so that the device works while the caller does
        return self._tell(result)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> NDArray[Any]:
        await self._fill_async()
        if not self._flying:
            self._raise_failure()
            raise StopAsyncIteration
        index, handle = self._flying.popleft()
        with self._ending(index):
            result = await handle
            self._ended += 1
            await self._fill_async()
        return self._tell(result)

    def close(self) -> None:
        """Give up what is in flight and give the memory back when the device is done; idempotent."""
        self._over = True
        while self._flying:
            self._flying.popleft()[1].cancel()
        self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return line(
            f"stream of frames, {self._ended} done",
            f"{len(self._flying)} of {self._plan.depth} in flight",
            "over" if self._over else "",
        )

    @property
    def _room(self) -> bool:
        return not self._over and self._failure is None and len(self._flying) < self._plan.depth

    def _fill(self) -> None:
        """Begin frames until ``depth`` are in flight; the first that cannot begin is the last."""
        if (frames := self._frames) is None:
            raise UsageError("these frames come from an asynchronous iterator: take results with async for")
        while self._room:
            with self._beginning():
                frame = np.asarray(next(frames))
                slot = self._slot(frame)
                self._ring.upload(frame, slot.source)
                self._work(slot, frame)

    async def _fill_async(self) -> None:
        """Do what :meth:`_fill` does; large frames are copied by workers, and the loop goes on."""
        while self._room:
            with self._beginning():
                if self._later is not None:
                    frame = np.asarray(await anext(self._later))
                else:
                    frame = np.asarray(next(cast(Iterator[ArrayLike], self._frames)))
                slot = self._slot(frame)
                if isinstance(self._ring, AsyncRing):
                    await self._ring.upload_async(frame, slot.source)
                else:
                    self._ring.upload(frame, slot.source)
                self._work(slot, frame)

    @contextlib.contextmanager
    def _beginning(self) -> Iterator[None]:
        """Keep what goes wrong with the next frame for its turn; an interrupted stream is over."""
        try:
            yield
        except (StopIteration, StopAsyncIteration):
            self._over = True
        except Exception as error:
            self._failure = _name(error, self._begun)
        except BaseException:
            self.close()
            raise
        else:
            self._begun += 1

    @contextlib.contextmanager
    def _ending(self, index: int) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.close()
            if isinstance(error, Exception):
                _name(error, index)
            raise

    def _raise_failure(self) -> None:
        """Close; raise what kept a frame from beginning, if anything did."""
        failure, self._failure = self._failure, None
        self.close()
        if failure is not None:
            raise failure

    def _tell(self, result: NDArray[Any]) -> NDArray[Any]:
        if self._plan.progress is not None:
            self._plan.progress(self._ended)
        return result

    def _slot(self, frame: NDArray[Any]) -> _Slot:
        """Return the buffers of the next frame, which is as large as the first."""
        if not self._slots:
            self._open(frame)
        if frame.nbytes != self._nbytes:
            raise UsageError(
                f"this frame has {frame.nbytes} bytes and the first had {self._nbytes}; all frames of a "
                "stream have the same"
            )
        return self._slots[self._begun % self._plan.depth]

    def _work(self, slot: _Slot, frame: NDArray[Any]) -> None:
        """Submit the work on a frame that is on its way up, and the read of its result."""
        index = self._begun
        dtype, shape = self._plan.result or (frame.dtype, frame.shape)
        out = None
        if self._plan.into is not None:
            out = self._plan.into(index) if callable(self._plan.into) else self._plan.into[index]
        commands = self._device.command_list()
        self._plan.record(commands, slot.source, slot.target, index)
        self._device.submit(commands, lane=self._compute)
        handle = self._pool.read(slot.target, dtype=dtype, shape=shape, out=out)
        self._flying.append((index, handle))

    def _open(self, first: NDArray[Any]) -> None:
        """Make what the frames go through, as large as the first asks for."""
        device, enter = self._device, self._own.enter_context
        self._nbytes = first.nbytes
        if not self._nbytes:
            raise UsageError("a frame has at least one byte")
        dtype, shape = self._plan.result or (first.dtype, first.shape)
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._compute = lane_of(device, "compute").name
        block = min(MAX_BLOCK, max(MIN_BLOCK, self._nbytes))
        self._ring = enter(device.staging_ring(buffer_size=block, lane=lane_of(device, "upload").name))
        given = self._plan.into is not None  # and may need no block at all
        home = AsyncReadbackConfig(
            max_pending_ops=self._plan.depth,
            buffer_size=min(size, MAX_BLOCK) if given else size,
            pre_allocate=not given,
        )
        self._pool = enter(device.readback_pool(home, lane=lane_of(device, "download").name))
        for _ in range(self._plan.depth):
            source = enter(device.create_buffer(self._nbytes, label="frame"))
            target = source if self._plan.in_place else enter(device.create_buffer(size, label="result"))
            self._slots.append(_Slot(source, target))


def stream(
    device: Device,
    frames: Iterable[ArrayLike] | AsyncIterable[ArrayLike],
    work: Kernel | Work,
    *,
    depth: int = DEFAULT_DEPTH,
    threads: int | tuple[int, ...] | None = None,
    params: Sequence[float] = (),
    result: tuple[Any, tuple[int, ...]] | None = None,
    into: Into | None = None,
    progress: Callable[[int], object] | None = None,
) -> FrameStream:
    """Upload each frame, run ``work`` on it and yield its result, with ``depth`` frames on their way at once.

    ``work`` is a kernel that binds the frame and its result (or one buffer, read and written), run over
    ``threads`` (default: one for each item of a frame) with ``params``; or a function that records on a
    command list: ``work(commands, source, target, index)``. ``result`` is the dtype and shape of a result,
    by default those of its frame. ``into`` gives the arrays that results go to, by index or by a call with
    it. ``progress`` is called with the number of frames that are done.

    Results come in the order of the frames. A frame is taken from ``frames`` when there is room for it, so
    memory is ``depth`` frames and results, however many there are. An error has a note and an attribute
    ``frame`` that name its frame; those before it are yielded first. Then the stream is over, and what it
    made is given back; leaving it early, ``close`` or a ``with`` block do the same, and so does an interrupt.

    ``async for`` takes results without blocking the loop, of asyncio or trio; ``frames`` may then be an
    asynchronous iterator, too. Cancelled, the stream is over.

    Thread-safety: one thread, or one task, at a time. Source: async pipeline guide, "triple buffering".
    """
    record = _recorder(work, threads, params)
    in_place = not callable(work) and len(work.source.bindings) == 1
    plan = _Plan(record, in_place, at_least(1, "depth", depth), result, into, progress)
    return FrameStream(device, frames, plan)


class Streaming:
    """A device that streams frames: ``device.stream(...)`` is :func:`stream`."""

    def stream(
        self,
        frames: Iterable[ArrayLike] | AsyncIterable[ArrayLike],
        work: Kernel | Work,
        **how: Unpack[StreamOptions],
    ) -> FrameStream:
        """See :class:`forge3d_core.protocols.StreamingDevice`."""
        return stream(cast(Device, self), frames, work, **how)


def _recorder(work: Kernel | Work, threads: int | tuple[int, ...] | None, params: Sequence[float]) -> Work:
    """Return the function that records what is done with a frame."""
    if callable(work):
        if threads is not None or params:
            raise UsageError("threads and params are a kernel's; a function says so when it records")
        return work
    if not hasattr(work, "source"):
        raise UsageError(
            f"work is a kernel, or a function work(commands, source, target, index), not {shown(work)}"
        )
    kernel, bound = work, len(work.source.bindings)
    if bound not in (1, 2):
        raise UsageError(
            f"kernel {kernel.source.name!r} binds {bound} buffers; a stream binds a frame and its result: "
            "for anything else give a function that records the dispatch"
        )
    itemsize = np.dtype(kernel.source.bindings[0].dtype).itemsize

    def record(commands: CommandList, source: Buffer, target: Buffer, _index: int) -> None:
        over = source.nbytes // itemsize if threads is None else threads
        commands.dispatch(kernel, [source, target][:bound], params, threads=over)

    return record


def _name(error: Exception, index: int) -> Exception:
    """Note on an error which frame it is of."""
    error.add_note(f"in frame {index} of the stream")
    error.frame = index  # type: ignore[attr-defined]
    return error
