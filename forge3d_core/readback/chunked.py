"""Reads of more than a block may be: piece by piece, through two of the device's chunks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Protocol

import attrs
from numpy.typing import NDArray

from forge3d_core.driver import Command
from forge3d_core.errors import Cancelled, FenceTimeout
from forge3d_core.foreign import view_of
from forge3d_core.memory.allocator import Allocation, Allocator
from forge3d_core.protocols import AsyncReadbackConfig, FencePoint, Limits
from forge3d_core.readback.blocks import Blocks
from forge3d_core.readback.destination import Destination
from forge3d_core.readback.handle import Handle
from forge3d_core.readback.region import Region
from forge3d_core.timeline.timeline import Point
from forge3d_core.transfer.chunks import Chunk
from forge3d_core.transfer.copying import HostCopier, aside
from forge3d_core.transfer.pages import fresh_memory
from forge3d_core.transfer.transfers import Transfers
from forge3d_core.transfer.workers import Crew

LOOK_SECONDS = 0.05
"""How often a wait looks up, for a close that woke no waiter."""


class ChunkHost(Protocol):
    """What such a read needs of its device."""

    allocator: Allocator
    copier: HostCopier
    transfers: Transfers

    @property
    def limits(self) -> Limits: ...

    def submit_commands(
        self,
        lane: str,
        commands: list[Command],
        reads: list[Allocation],
        writes: list[Allocation],
        after: Iterable[FencePoint] = (),
    ) -> Point: ...


class ChunkedReads:
    """Makes the reads of one pool for which no block can ever be large enough. The caller waits for them.

    Thread-safety: any thread.
    """

    def __init__(self, host: ChunkHost, blocks: Blocks, config: AsyncReadbackConfig, lane: str) -> None:
        self._host = host
        self._limits = host.limits
        self._lane = lane
        self._blocks = blocks
        self._patient = config.backpressure != "raise"  # then no read may wait

    @cached_property
    def _leader(self) -> Crew:
        """The one thread that makes reads for coroutines, and waits for the device."""
        return Crew(threads=1)

    def due(self, handles: Sequence[Handle], nbytes: int) -> bool:
        """Whether a block of ``nbytes`` can never be had; blocks are rounded up by a sixteenth at most."""
        most = min(self._host.allocator.budget.limit, self._limits.max_buffer_size) * 15 // 16
        return self._patient and len(handles) == 1 and nbytes > most

    def read(self, handle: Handle, after: Iterable[FencePoint]) -> bool:
        """Complete a read; False, and nothing has changed, where the budget has no room for a piece of it."""
        return self._read(handle, after, self._blocks.life.check)

    async def read_async(self, handle: Handle, after: Iterable[FencePoint]) -> bool:
        """Do that for a coroutine. Cancelled, the read ends soon, on its own thread."""
        given_up = False

        def check() -> None:
            self._blocks.life.check()
            if given_up:
                raise Cancelled("the task that awaited this read was cancelled")

        try:
            return await aside(self._leader, partial(self._read, handle, after, check))
        except BaseException:
            given_up = True
            raise

    def _read(self, handle: Handle, after: Iterable[FencePoint], check: Callable[[], None]) -> bool:
        region = handle.region
        result = region.out
        if result is None:
            result = fresh_memory(region.nbytes).view(region.dtype).reshape(region.shape)
        point = ChunkedRead(self._host, self._limits, region, self._lane, after, check).run(result)
        if point is None:
            return False
        handle.end(point, result)
        taken = time.perf_counter() - handle.started
        with self._blocks.lock:
            self._blocks.state.counts.count(region.nbytes, taken)
        return True


@attrs.frozen(eq=False)
class Piece:
    """Bytes of a buffer or rows of a texture, ``start`` to ``stop``, that go ``place`` bytes into a chunk."""

    start: int
    stop: int
    place: int


@attrs.define(eq=False)
class ChunkedRead:
    """One read, made by the thread that calls ``run``: one chunk is copied from while the other is filled.

    What other threads submit meanwhile may write to the source between two pieces. ``check`` raises what ends
    the read early.
    """

    host: ChunkHost
    limits: Limits
    region: Region
    lane: str
    after: Iterable[FencePoint]
    check: Callable[[], None]

    def run(self, result: NDArray[Any]) -> Point | None:
        """Fill ``result`` and return the last point; None where the budget has no room for a piece."""
        chunks, done = self.host.transfers.landing, False
        first = chunks.demand(max(self.host.transfers.reading.largest, self._least))
        if first is None:
            return None
        mine = [first]
        try:
            if first.nbytes >= self._least:
                if (second := chunks.take(first.nbytes)) is not None:
                    mine.append(second)
                point = self._run(result, mine)
            else:
                point = None
            done = True
        finally:
            if not done:  # not left to the frames, which an error that the caller keeps would keep
                chunks.drop(mine)
        for chunk in mine:
            chunks.give(chunk)
        return point

    @property
    def _least(self) -> int:
        """The bytes of the smallest piece."""
        pitch = self.region.row_pitch
        return 2 * self._unit if pitch is None else self.region.cut(1, self.limits)[0] * pitch

    @property
    def _unit(self) -> int:
        return max(self.limits.copy_alignment, 1)

    def _pieces(self, most: int) -> list[Piece]:
        """Cut the region so that no piece takes more than ``most`` bytes, where it can be cut so small."""
        region, lead = self.region, self.region.lead
        if region.row_pitch is not None:
            return [Piece(*run, 0) for run in pairwise([0, *region.cut(most, self.limits)])]
        most = max(most // self._unit - 1, 1) * self._unit  # the copy of the last may be a unit longer
        return [Piece(*run, 0 if run[0] else lead) for run in pairwise([0, *region.cut(most, self.limits)])]

    def _run(self, result: NDArray[Any], chunks: list[Chunk]) -> Point:
        region, after = self.region, self.after
        pieces = self._pieces(chunks[0].nbytes)
        destination = Destination.of(region, result, [piece.stop for piece in pieces])
        free, flying = deque(chunks), deque[tuple[Chunk, Piece, Point]]()
        for piece in pieces:
            self.check()
            if not free:
                free.append(self._land(destination, *flying.popleft()))
            chunk = free.popleft()
            origin = region.lead + piece.start if region.row_pitch is None else piece.start * region.row_pitch
            command = region.piece(chunk.native, piece.place - origin, piece.start, piece.stop)
            point = self.host.submit_commands(
                self.lane, [command], [region.allocation], [chunk.allocation], after
            )
            after, chunk.point = (), point
            flying.append((chunk, piece, point))
        while flying:
            self._land(destination, *flying.popleft())
        return point

    def _land(self, destination: Destination, chunk: Chunk, piece: Piece, point: Point) -> Chunk:
        """Wait for a piece, move it out of its chunk, and return that."""
        while True:
            try:
                point.wait(LOOK_SECONDS)
                break
            except FenceTimeout:
                self.check()
        copier = self.host.copier
        with copier.gate.passing():
            memory = view_of(chunk.native)
            for target, source in destination.pairs(memory, piece.place, piece.start, piece.stop):
                copier.copy(target, source)
        return chunk
