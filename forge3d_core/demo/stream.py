"""The loop: stage a tile, shade it, bring it home, while the next is on its way.

Everything here goes through the protocols, so it runs on any backend, a stranger's too.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.demo.check import compare
from forge3d_core.demo.hillshade import HILLSHADE, PIXELS_PER_THREAD, Light
from forge3d_core.demo.link import link_seconds
from forge3d_core.demo.terrain import Terrain
from forge3d_core.demo.tiles import Tile, bands, tiles
from forge3d_core.errors import UsageError
from forge3d_core.protocols import Buffer, Device, ReadbackHandle, ReadbackPool, StagingRing

DEPTH = 3  # tiles on the device at once: one comes, one is shaded, one leaves

Progress = Callable[[str, int, int], None]


def _silent(_phase: str, _done: int, _all: int) -> None:
    """Tell nothing."""


@attrs.frozen
class StreamReport:
    """What one run did. Times in seconds, sizes in bytes.

    ``link_seconds``: what the same bytes would take if they only crossed the link, each way at its speed.
    ``peak_tiles_in_flight`` and ``mean_tiles_in_flight``: tiles that the device had not finished with, asked
    each time that one more had been submitted; ``peak_bytes_in_flight``: staged bytes that it had not taken,
    asked each time that an upload had returned.
    """

    backend: str
    device: str
    tiles: int
    bytes_up: int
    bytes_down: int
    seconds: float
    link_seconds: float
    ring_count: int
    buffer_size: int
    buffer_stalls: int
    peak_bytes_in_flight: int
    peak_tiles_in_flight: int
    mean_tiles_in_flight: float
    readback_waits: int
    peak_host_visible_bytes: int
    limit_bytes: int
    wrong_tiles: int
    largest_difference: int  # in grey levels, against numpy

    @property
    def throughput(self) -> float:
        """Bytes a second, both ways together."""
        return (self.bytes_up + self.bytes_down) / self.seconds

    @property
    def link_throughput(self) -> float:
        """The bytes a second that the device's link allows for this mix of both ways."""
        return (self.bytes_up + self.bytes_down) / self.link_seconds

    @property
    def correct(self) -> bool:
        return self.wrong_tiles == 0


@attrs.define
class Flights:
    """How many tiles the device was at work on, each time that it was asked."""

    peak: int = 0
    total: int = 0
    asked: int = 0
    peak_bytes: int = 0

    def note(self, tiles: int) -> None:
        self.peak = max(self.peak, tiles)
        self.total += tiles
        self.asked += 1

    def note_bytes(self, nbytes: int) -> None:
        self.peak_bytes = max(self.peak_bytes, nbytes)

    @property
    def mean(self) -> float:
        return self.total / self.asked if self.asked else 0.0


class TerrainStream:
    """Shades the tiles of a terrain, as often as it is run.

    The calling thread stages and submits, a second one takes the results home. Thread-safety: one run at a
    time. Close it, or use it in ``with``.
    """

    def __init__(
        self,
        device: Device,
        terrain: Terrain,
        plan: Sequence[Tile],
        light: Light,
        *,
        ring_count: int = 3,
        buffer_size: int | str = "16 MiB",
    ) -> None:
        self.flights = Flights()
        self._device, self._terrain, self._plan = device, terrain, plan
        self._scales = light.scales(terrain.dx, terrain.dy)
        self._kernel = device.create_kernel(HILLSHADE)
        staged = max(tile.window(terrain).nbytes for tile in plan)
        shaded = max(tile.width * tile.height for tile in plan)
        with ExitStack() as stack:
            self._inputs = [self._buffer(stack, staged, f"elevation {i}") for i in range(DEPTH)]
            self._outputs = [self._buffer(stack, shaded, f"shade {i}") for i in range(DEPTH)]
            self.ring: StagingRing = stack.enter_context(
                device.staging_ring(ring_count=ring_count, buffer_size=buffer_size)
            )
            self.pool: ReadbackPool = stack.enter_context(
                device.readback_pool(max_pending_ops=DEPTH, buffer_size=shaded)
            )
            self._home = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="forge3d-demo"))
            self._stack = stack.pop_all()

    def warm_up(self, picture: NDArray[np.uint8]) -> None:
        """Shade the first tile into ``picture``: what is made once, such as threads, is made by then."""
        _land(self._submit(0, self._plan[0], picture), self._plan[0], picture)

    def run(self, picture: NDArray[np.uint8], progress: Progress = _silent) -> float:
        """Shade every tile into ``picture``, (height, width), and return how many seconds it took."""
        start = time.perf_counter()
        coming: deque[tuple[ReadbackHandle, Future[None]]] = deque()
        for number, tile in enumerate(self._plan):
            if len(coming) == DEPTH:
                coming.popleft()[1].result()
            handle = self._submit(number % DEPTH, tile, picture)
            coming.append((handle, self._home.submit(_land, handle, tile, picture)))
            self.flights.note(sum(not handle.point.done for handle, _ in coming))
            progress("streaming", number + 1, len(self._plan))
        for _, landed in coming:
            landed.result()
        return time.perf_counter() - start

    def close(self) -> None:
        self._stack.close()

    def _submit(self, place: int, tile: Tile, picture: NDArray[np.uint8]) -> ReadbackHandle:
        """Put a tile on its way; the device orders its parts, and what used the same buffers before."""
        window = tile.window(self._terrain)
        elevation, shades = self._inputs[place], self._outputs[place]
        self.ring.upload(window, elevation)
        self.flights.note_bytes(self.ring.stats().bytes_in_flight)
        words, (rows, pitch) = tile.width // PIXELS_PER_THREAD, window.shape
        params = (words, tile.height, pitch, rows, *tile.inset, *self._scales)
        commands = self._device.command_list().dispatch(
            self._kernel, [elevation, shades], params, threads=(words, tile.height)
        )
        self._device.submit(commands)
        target = tile.of(picture)
        out = target if target.flags.c_contiguous else None
        return self.pool.read(shades, shape=(tile.height, tile.width), out=out)

    def _buffer(self, stack: ExitStack, nbytes: int, label: str) -> Buffer:
        buffer = self._device.create_buffer(nbytes, label=label)
        stack.callback(buffer.close)
        return buffer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _land(handle: ReadbackHandle, tile: Tile, picture: NDArray[np.uint8]) -> None:
    shades, target = handle.wait(), tile.of(picture)
    if not target.flags.c_contiguous:
        target[:] = shades


def shade_terrain(
    device: Device,
    terrain: Terrain,
    *,
    side: int | None = None,
    light: Light | None = None,
    ring_count: int = 3,
    buffer_size: int | str = "16 MiB",
    tolerance: int = 1,
    progress: Progress = _silent,
) -> tuple[NDArray[np.uint8], StreamReport]:
    """Shade ``terrain`` on ``device`` and return the picture (height, width) and what it took.

    Its tiles are squares of ``side`` samples, or else bands of whole rows. ``progress(phase, done, all)`` is
    called for each tile while streaming, then for pieces of them while checking against numpy; only the
    streaming is timed, after a first tile that is not. A tile that differs by more than ``tolerance`` grey
    levels is wrong. Raises :class:`UsageError` for a width that is no multiple of 4 samples, as a thread
    shades so many; :meth:`Terrain.grown_to` returns none such.
    """
    light = light or Light()
    height, width = terrain.elevation.shape
    if not height or not width or width % PIXELS_PER_THREAD:
        raise UsageError(
            f"a terrain's width is a multiple of {PIXELS_PER_THREAD} samples, not {width} x {height}; "
            "grown_to() returns one that is"
        )
    plan = list(bands(terrain) if side is None else tiles(terrain, side))
    picture = np.full(terrain.elevation.shape, 0, np.uint8)  # not zeros, whose pages would come while timed
    with TerrainStream(
        device, terrain, plan, light, ring_count=ring_count, buffer_size=buffer_size
    ) as stream:
        stream.warm_up(picture)
        picture.fill(0)  # what is right afterwards was made by the run
        seconds = stream.run(picture, progress)
        ring, pool, flights = stream.ring.stats(), stream.pool.stats(), stream.flights
        metrics = device.budget.metrics()
    up = sum(tile.window(terrain).nbytes for tile in plan)
    limit = link_seconds(device, up, picture.nbytes)
    wrong, largest = compare(plan, terrain, light, picture, tolerance, progress)
    report = StreamReport(
        backend=device.info.backend,
        device=device.info.name,
        tiles=len(plan),
        bytes_up=up,
        bytes_down=picture.nbytes,
        seconds=seconds,
        link_seconds=limit,
        ring_count=ring.ring_count,
        buffer_size=ring.buffer_size,
        buffer_stalls=ring.buffer_stalls,
        peak_bytes_in_flight=flights.peak_bytes,
        peak_tiles_in_flight=flights.peak,
        mean_tiles_in_flight=flights.mean,
        readback_waits=pool.waits,
        peak_host_visible_bytes=metrics.peak_host_visible_bytes,
        limit_bytes=metrics.limit_bytes,
        wrong_tiles=wrong,
        largest_difference=largest,
    )
    return picture, report
