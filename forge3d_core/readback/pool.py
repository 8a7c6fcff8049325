"""The readback pool, once for all backends: blocks lent to reads, landed in owned arrays, lent again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, Self, Unpack, cast

from numpy.typing import NDArray

from forge3d_core import protocols
from forge3d_core.arguments import keywords, shown
from forge3d_core.driver import Command
from forge3d_core.errors import Closed, Forked, copy_exception
from forge3d_core.lifetime.async_with import AsyncWith
from forge3d_core.lifetime.life import Life
from forge3d_core.lifetime.teardown import Turn
from forge3d_core.memory.allocator import Allocation, Allocator
from forge3d_core.presentation import line, presents
from forge3d_core.protocols import (
    AsyncReadbackConfig,
    FencePoint,
    Limits,
    ReadArguments,
    ReadbackStats,
    ReadRegion,
    ReadRequest,
    WantedRead,
)
from forge3d_core.protocols.readback import ORIGIN
from forge3d_core.readback import coroutines
from forge3d_core.readback.backpressure import Backpressure
from forge3d_core.readback.batch import pack, requests
from forge3d_core.readback.blocks import Blocks
from forge3d_core.readback.chunked import ChunkedReads
from forge3d_core.readback.concurrency import Concurrency
from forge3d_core.readback.handle import Handle
from forge3d_core.readback.region import Region
from forge3d_core.readback.results import Results
from forge3d_core.readback.state import PoolState, Slot
from forge3d_core.readback.stream import Stream
from forge3d_core.timeline.timeline import Point
from forge3d_core.transfer.copying import HostCopier
from forge3d_core.transfer.landing import Piece
from forge3d_core.transfer.transfers import Transfers
from forge3d_core.units import format_bytes

PIECES_BYTES = 2 * 1024**2
"""From here on a read is submitted in pieces, where the device lets the host see those that have come."""

CLOSED = "the readback pool was closed; make another with device.readback_pool()"


class PoolHost(Protocol):
    """What a pool needs of its device."""

    allocator: Allocator
    copier: HostCopier
    transfers: Transfers
    life: Life

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

    def submit_parts(
        self,
        lane: str,
        parts: Iterable[Sequence[Command]],
        reads: list[Allocation],
        writes: list[Allocation],
        after: Iterable[FencePoint] = (),
    ) -> list[Point]: ...

    def idle_point(self, lane: str) -> Point: ...


@presents(protocols.BatchingPool)
class Pool(AsyncWith):
    """See :class:`forge3d_core.protocols.BatchingPool`.

    A read has a block from its submission until its bytes have *landed*: until they are taken, or a later
    read needs the block and moves them out, which gives the same array as ``wait`` afterwards. So a caller
    may start any number of reads before taking the first, and the bound on blocks holds all the same.

    A read and a batch of reads start in the same way: the state of the blocks is stepped under their lock,
    and what it asks for, to allocate, to land other reads or to wait, is done outside.
    """

    def __init__(self, host: PoolHost, config: AsyncReadbackConfig, lane: str) -> None:
        self.config = config
        self.lane = lane
        self.life = host.life.below()
        self.copier = host.copier
        self.transfers = host.transfers
        self.results = Results()
        self._host = host
        self._limits = host.limits
        depth = config.max_pending_ops if config.double_buffered else 1
        concurrency = Concurrency(config.min_pending_ops, depth) if config.adaptive else None
        state = PoolState(concurrency.limit if concurrency else depth, config.buffer_size)
        self.blocks = Blocks(host.allocator, self.life, state, pre_allocate=config.pre_allocate)
        self.blocks.concurrency = concurrency
        self._chunked = ChunkedReads(host, self.blocks, config, lane)
        self._pressure = Backpressure(self.blocks, config, lane)
        self._closed = False
        self._turn = Turn()
        self._give_up: Callable[[Handle], None] = Handle.fail  # what its end does to a read

    @property
    def closed(self) -> bool:
        return self._closed

    def read(
        self,
        source: protocols.Buffer | protocols.Texture,
        *,
        offset: int = 0,
        nbytes: int | None = None,
        dtype: Any = None,
        shape: int | tuple[int, ...] | None = None,
        origin: protocols.Origin = ORIGIN,
        size: protocols.Origin | None = None,
        out: NDArray[Any] | None = None,
        after: Iterable[FencePoint] = (),
    ) -> Handle:
        handle = self._handle(ReadRequest(source, offset, nbytes, dtype, shape, origin, size, out))
        if handle.region.nbytes:
            self._read([handle], handle.region.block_bytes, after)
        return handle

    async def read_async(
        self, source: protocols.Buffer | protocols.Texture, **region: Unpack[ReadArguments]
    ) -> Handle:
        keywords("read_async", region, (*ReadRegion.__annotations__, "after"))
        after = region.pop("after", ())
        handle = self._handle(ReadRequest(source, **cast(ReadRegion, region)))
        if handle.region.nbytes:
            await self._read_async([handle], handle.region.block_bytes, after)
        return handle

    def read_many(self, reads: Iterable[WantedRead], after: Iterable[FencePoint] = ()) -> list[Handle]:
        handles = [self._handle(request) for request in requests(reads)]
        filled, nbytes = pack(handles, self._limits)
        if filled:
            self._read(filled, nbytes, after)
        return handles

    async def read_many_async(
        self, reads: Iterable[WantedRead], after: Iterable[FencePoint] = ()
    ) -> list[Handle]:
        handles = [self._handle(request) for request in requests(reads)]
        filled, nbytes = pack(handles, self._limits)
        if filled:
            await self._read_async(filled, nbytes, after)
        return handles

    def stream(self, source: protocols.Buffer | protocols.Texture, **region: Unpack[ReadRegion]) -> Stream:
        keywords("stream", region, ReadRegion.__annotations__)
        self.life.check()
        Region.of(self._host, self._limits, request := ReadRequest(source, **region))  # now, not later
        return Stream(self, request)

    def try_read(self, request: ReadRequest, after: Iterable[FencePoint]) -> Handle | None:
        """Start a read if a block is free, or can be freed without waiting; the policy does not matter."""
        handle = self._handle(request)
        if handle.region.nbytes and not self._read([handle], handle.region.block_bytes, after, wait=False):
            return None
        return handle

    def drop_frame(self) -> None:
        """Count a frame that a stream gave up."""
        with self.blocks.lock:
            self.blocks.state.counts.dropped_frames += 1

    def stats(self) -> ReadbackStats:
        return self.blocks.stats()

    def close(self) -> None:
        if type(self.life.ended) is not Forked:  # the parent's to close
            self._turn.run(lambda: self._end(Handle.cancel))

    def abandon(self) -> None:
        """Close, and end the leases too: the device closes, and takes the blocks along.

        What is pending raises what the device's closing or loss made of its point.
        """
        if type(self.life.ended) is not Forked:
            self._end(Handle.fail)
            self.blocks.revoke()

    def __repr__(self) -> str:
        state = self.blocks.state
        return line(
            f"readback pool on lane {shown(self.lane)}: {state.pending} of {state.depth} reads pending",
            f"blocks of {format_bytes(self.config.buffer_size)}",
            "closed" if self._closed else "",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _handle(self, request: ReadRequest) -> Handle:
        """Return the handle of a read that is yet to start; one of an empty region is complete."""
        if (ended := self.life.ended) is not None:
            raise copy_exception(ended)
        region = Region.of(self._host, self._limits, request)
        if region.out is not None:
            region = region.aimed(self.transfers.host_arrays.find(region.out), self._limits)
        handle = Handle(self, region)
        if not handle.region.nbytes:
            handle.end(self._host.idle_point(self.lane))
            with self.blocks.lock:
                self.blocks.state.counts.count(0, 0.0)
        return handle

    def _read(
        self, handles: list[Handle], nbytes: int, after: Iterable[FencePoint], *, wait: bool = True
    ) -> bool:
        """Start reads in one block, under the policy or, without ``wait``, only if there is one; whether."""
        chunked = nbytes > self.config.buffer_size and wait and self._chunked.due(handles, nbytes)
        if chunked and self._chunked.read(handles[0], after):
            return True
        slot: Slot | None = None
        try:
            step = self.blocks.claim(handles, nbytes)
            if isinstance(step, Slot):
                slot = step
            elif wait:
                slot = self._pressure.acquire(handles, nbytes, step)
            else:
                slot = self._pressure.try_acquire(handles, nbytes, step)
            if slot is not None:
                self._start(slot, handles, after)
            elif wait:
                self._read_alone(handles, nbytes, after)
            return wait or slot is not None
        except BaseException:
            self.blocks.withdraw(slot, handles)  # now, and not when the error is gone
            raise

    async def _read_async(self, handles: list[Handle], nbytes: int, after: Iterable[FencePoint]) -> None:
        chunked = nbytes > self.config.buffer_size and self._chunked.due(handles, nbytes)
        if chunked and await self._chunked.read_async(handles[0], after):
            return
        slot: Slot | None = None
        try:
            slot = await coroutines.acquire(self._pressure, handles, nbytes)
            if slot is not None:
                self._start(slot, handles, after)
            else:
                await self._read_alone_async(handles, nbytes, after)
        except BaseException:
            self.blocks.withdraw(slot, handles)
            raise

    def _start(self, slot: Slot, handles: Sequence[Handle], after: Iterable[FencePoint]) -> None:
        """Submit reads into the block that was lent to them."""
        allocation = slot.allocation
        first = handles[0].region
        large = len(handles) == 1 and first.nbytes >= PIECES_BYTES and first.direct is None
        if large and self._limits.mapped_copies:
            self._start_pieces(slot, handles[0], after)
            return
        commands: list[Command] = []
        sources: dict[Allocation, None] = {}
        goals = [allocation]
        for handle in handles:
            commands.append(handle.region.command(allocation.native, handle.place))
            sources[handle.region.allocation] = None
            if handle.region.direct is not None:
                goals.append(handle.region.direct[0])
        point = self._host.submit_commands(self.lane, commands, list(sources), goals, after)
        self._started(slot, handles, point)

    def _start_pieces(self, slot: Slot, handle: Handle, after: Iterable[FencePoint]) -> None:
        """Submit a large read in pieces, each with a point: the first lands while the others are copied."""
        region, native = handle.region, slot.allocation.native
        stops = region.cut(self.transfers.reading.cut(region.nbytes, region.nbytes).chunk, self._limits)
        starts = [0, *stops[:-1]]
        commands = [[region.piece(native, handle.place, *run)] for run in zip(starts, stops, strict=True)]
        points = self._host.submit_parts(self.lane, commands, [region.allocation], [slot.allocation], after)
        handle.pieces = list(map(Piece, starts, stops, points))
        self._started(slot, [handle], points[-1])

    def _started(self, slot: Slot, handles: Sequence[Handle], point: Point) -> None:
        if self.blocks.started(slot, handles, point) is not None:  # what ended the pool has not seen them
            for handle in handles:
                self._give_up(handle)

    def _read_alone(self, handles: list[Handle], nbytes: int, after: Iterable[FencePoint]) -> None:
        """Read through a block that is none of the pool's, and wait."""
        owned = self._host.allocator.block(nbytes, "readback")
        slot = Slot(owned, nbytes)
        slot.lend(handles)
        try:
            self._start(slot, handles, after)
            for handle in handles:
                handle.wait()
        except BaseException:
            for handle in handles:
                handle.cancel()  # unless it has failed
            raise
        finally:
            self._host.allocator.release(owned)

    async def _read_alone_async(
        self, handles: list[Handle], nbytes: int, after: Iterable[FencePoint]
    ) -> None:
        """Do that for a coroutine."""
        owned = self._host.allocator.block(nbytes, "readback")
        slot = Slot(owned, nbytes)
        slot.lend(handles)
        try:
            self._start(slot, handles, after)
            for handle in handles:
                await handle
        except BaseException:
            for handle in handles:
                handle.cancel()
            raise
        finally:
            self._host.allocator.release(owned)

    def _end(self, give_up: Callable[[Handle], None]) -> None:
        if self._closed:
            return
        self._give_up = give_up
        self.life.end(Closed(CLOSED))
        self._closed = True
        handles = self.blocks.readers()
        try:
            for handle in handles:
                if handle.point.done:
                    handle.land()  # it has completed, and keeps what it has
        finally:
            for handle in handles:
                give_up(handle)  # unless it has landed
            self.blocks.close()
            self.results.clear()
