"""Operations that depend on each other, over the lanes of one device."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, cast

from numpy.typing import ArrayLike, NDArray

from forge3d_core.deadline import Deadline
from forge3d_core.errors import Closed, FenceTimeout, ForgeError, StateError, UsageError
from forge3d_core.pipeline.operations import Book, Completion, Operation, OperationType
from forge3d_core.pipeline.triple_buffer import TripleBuffer, TripleSlot
from forge3d_core.presentation import counted, line
from forge3d_core.protocols import (
    Buffer,
    CommandList,
    Device,
    FencePoint,
    Kernel,
    Lane,
    ReadbackHandle,
    ReadbackPool,
    StagingRing,
    Texture,
)

COLLECT_EVERY = 256
"""So many operations in flight are looked through for ended ones, whether someone polls or not."""

MAX_UNPOLLED = 65536


class AsyncCoordinator:
    """Queues uploads, computations and downloads, each behind those that it depends on, and tells their ends.

    Each ``queue_…`` submits at once and returns the operation's number, from 1; the device waits for
    dependencies, not the caller. What shares memory is put in order by the device anyway, so ``deps`` says
    what it cannot know. An operation that fails on the device fails its lane, and with it what depends on it;
    everything else goes on, and the buffers of a :class:`TripleBuffer` come back. A refused call queues
    nothing.

    ``ring`` and ``pool`` are those to stage through and read with; without them it has its own, which it
    closes. Ended operations wait for :meth:`poll`, the newest 65 536 of them.

    Thread-safety: any thread. Source: async pipeline guide, "AsyncCoordinator".
    """

    def __init__(
        self, device: Device, *, ring: StagingRing | None = None, pool: ReadbackPool | None = None
    ) -> None:
        self.device = device
        self._own = contextlib.ExitStack()
        self._book = Book(MAX_UNPOLLED)
        self._lock = threading.RLock()
        self._closed = False
        try:
            upload, download = lane_of(device, "upload"), lane_of(device, "download")
            self._ring = ring or self._own.enter_context(device.staging_ring(lane=upload.name))
            self._pool = pool or self._own.enter_context(device.readback_pool(lane=download.name))
        except BaseException:
            self._own.close()
            raise
        self._lanes = {"upload": upload, "compute": lane_of(device, "compute"), "download": download}
        self._compute = self._lanes["compute"].name

    @property
    def upload_stream(self) -> Lane:
        """The lane that uploads are submitted to."""
        return self._lanes["upload"]

    @property
    def compute_stream(self) -> Lane:
        """The lane that computations are submitted to."""
        return self._lanes["compute"]

    @property
    def download_stream(self) -> Lane:
        """The lane that downloads are submitted to."""
        return self._lanes["download"]

    def queue_upload(
        self,
        data: ArrayLike,
        target: Buffer | Texture | TripleBuffer,
        deps: Iterable[int] = (),
        *,
        offset: int = 0,
        timeout: float | None = None,
    ) -> int:
        """Stage ``data`` for ``target`` and return the operation's number; ``data`` is the caller's again.

        Of a triple buffer the one that has been free longest is taken, and waited for: for up to ``timeout``
        seconds, as for room in the ring. Raises what ``upload`` does, :class:`FenceTimeout`, and
        :class:`StateError` where no buffer is free and none is on its way.
        """
        after = self._after(deps)
        if type(target) is TripleBuffer:
            deadline = Deadline.after(timeout)
            with _turn(target.get_upload_buffer(timeout), target, "filled") as slot:
                point = self._upload(data, slot.buffer, after, offset, deadline.timeout)
                slot.submitted(point)
        else:
            point = self._upload(data, target, after, offset, timeout)
        return self._add("upload", point)

    def queue_compute(
        self,
        work: CommandList | Kernel,
        deps: Iterable[int] = (),
        *,
        buffers: Sequence[Buffer | TripleBuffer] = (),
        params: Sequence[float] = (),
        threads: int | tuple[int, ...] | None = None,
    ) -> int:
        """Submit a command list, or one dispatch of a kernel over ``buffers``, and return its number.

        A triple buffer among ``buffers`` stands for the one that was filled first.
        """
        after = self._after(deps)
        if threads is None and not buffers:
            if not hasattr(work, "dispatch"):
                raise UsageError(
                    f"{work!r} is no command list; a kernel takes buffers=, params= and threads="
                )
            return self._add(
                "compute", self.device.submit(cast(CommandList, work), lane=self._compute, after=after)
            )
        if threads is None:
            raise UsageError("say over how many threads the kernel runs: threads=...")
        if TripleBuffer not in map(type, buffers):
            return self._add("compute", self._dispatch(work, buffers, params, threads, after))
        with contextlib.ExitStack() as stack:
            slots: list[TripleSlot] = []
            memory: list[Any] = list(buffers)
            for place, buffer in enumerate(buffers):
                if isinstance(buffer, TripleBuffer):
                    turn = _turn(buffer.get_process_buffer(), buffer, "processed")
                    slots.append(stack.enter_context(turn))
                    memory[place] = slots[-1].buffer
            point = self._dispatch(work, memory, params, threads, after)
            for slot in slots:
                slot.submitted(point)
        return self._add("compute", point)

    def queue_download(
        self, source: Buffer | Texture | TripleBuffer, out: NDArray[Any], deps: Iterable[int] = ()
    ) -> int:
        """Start a read of ``source`` into ``out`` and return its number.

        ``out`` has the bytes when :meth:`wait`, :meth:`poll` or :meth:`synchronize_all` has told its end. A
        triple buffer stands for the one that was worked on first, and is given up: it is free once read.
        """
        after = self._after(deps)
        if type(source) is TripleBuffer:
            with _turn(source.get_download_buffer(), source, "downloaded") as slot:
                handle = self._pool.read(slot.buffer, nbytes=out.nbytes, out=out, after=after)
                slot.submitted(handle.point)
            source.advance()
        else:
            memory = cast(Buffer | Texture, source)
            nbytes = None if hasattr(memory, "format") else out.nbytes
            handle = self._pool.read(memory, nbytes=nbytes, out=out, after=after)
        return self._add("download", handle.point, handle)

    def poll(self) -> list[Completion]:
        """Return the operations that have ended since the last time, each once; never waits for the device.

        The bytes of downloads among them have landed.
        """
        self._collect()
        with self._lock:
            return self._book.drain()

    def wait(self, op_id: int, timeout: float | None = None) -> None:
        """Wait for one operation; :meth:`poll` reports it all the same.

        Raises :class:`UsageError` for a number that was not given out, :class:`FenceTimeout`, and what made
        the operation fail.
        """
        with self._lock:
            operation = self._book.find(op_id)
        if operation is None:
            return
        try:
            if operation.handle is not None:
                operation.handle.wait(timeout)
            else:
                operation.point.wait(timeout)
        finally:
            self._collect()

    def synchronize_all(self, timeout: float | None = None) -> None:
        """Wait for all operations queued so far; raises the first failure, once all have ended."""
        deadline = Deadline.after(timeout)
        with self._lock:
            operations = self._book.newest()
        failure: Exception | None = None
        for operation in operations:
            try:
                if operation.handle is not None:
                    operation.handle.wait(deadline.timeout)
                else:
                    operation.point.wait(deadline.timeout)
            except FenceTimeout:
                raise
            except ForgeError as error:
                failure = failure or error
        self._collect()
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close the ring and the pool that it made; what was queued goes on. Idempotent."""
        with self._lock:
            self._closed = True
        self._own.close()

    def __len__(self) -> int:
        """How many operations are not known to have ended."""
        return len(self._book)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return line(
            f"coordinator over {self.device!r}",
            f"{len(self)} in flight of {counted(self._book.last, 'operation')}",
            "closed" if self._closed else "",
        )

    def _after(self, deps: Iterable[int]) -> Sequence[FencePoint]:
        with self._lock:
            self._check()
            return self._book.points(deps) if deps else ()

    def _upload(
        self, data: ArrayLike, target: Any, after: Sequence[FencePoint], offset: int, timeout: float | None
    ) -> FencePoint:
        if after:  # what is staged next on this lane comes behind them
            self.device.submit(self.device.command_list(), lane=self.upload_stream.name, after=after)
        return self._ring.upload(data, target, offset, timeout=timeout)

    def _dispatch(
        self, kernel: Any, buffers: Any, params: Any, threads: Any, after: Sequence[FencePoint]
    ) -> FencePoint:
        commands = self.device.command_list().dispatch(kernel, buffers, params, threads=threads)
        return self.device.submit(commands, lane=self._compute, after=after)

    def _add(self, op_type: OperationType, point: FencePoint, handle: ReadbackHandle | None = None) -> int:
        with self._lock:
            number = self._book.add(op_type, point, handle)
        if number % COLLECT_EVERY == 0:
            self._collect()
        return number

    def _collect(self) -> None:
        """Take out what has ended; the bytes of downloads land outside the lock."""
        ended: list[Operation] = []
        with self._lock:
            for head in self._book.lanes():
                timeline = head.point.timeline
                done = self._book.take(timeline.name, timeline.completed)
                if (failure := timeline.failure) is not None:
                    for operation in self._book.take(timeline.name, 1 << 64):
                        self._book.end(operation, failure)
                for operation in done:
                    if operation.handle is None:
                        self._book.end(operation)
                    else:
                        ended.append(operation)
        for operation in ended:
            error: Exception | None = None
            try:
                assert operation.handle is not None
                operation.handle.wait(0)
            except ForgeError as raised:
                error = raised
            with self._lock:
                self._book.end(operation, error)

    def _check(self) -> None:
        if self._closed:
            raise Closed("this coordinator was closed; make another")


def lane_of(device: Device, name: str) -> Lane:
    """Return the lane of that name, or the first where the device has none such."""
    lanes = device.lanes
    return lanes[name] if name in lanes else next(iter(lanes.values()))


@contextlib.contextmanager
def _turn(slot: TripleSlot | None, buffer: TripleBuffer, what: str) -> Iterator[TripleSlot]:
    """Yield the slot whose turn it is to be ``what``; it comes back where its work is not submitted."""
    if slot is None:
        raise StateError(
            f"no buffer of this triple buffer is ready to be {what}: {buffer!r}; advance() gives one up that "
            "has been read"
        )
    try:
        yield slot
    except BaseException:
        buffer.abandon(slot)
        raise
