"""The loop: stage a tile, shade it, bring it home, while the next is on its way.

Everything here goes through the protocols, so it runs on any backend, a stranger's too.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.demo.hillshade import HILLSHADE, PIXELS_PER_THREAD, Light, shade
from forge3d_core.demo.terrain import Terrain
from forge3d_core.errors import UsageError
from forge3d_core.protocols import Device, ReadbackHandle

BORDER = 1  # samples that a tile needs on each side
DEPTH = 3  # tiles on the device at once: one comes, one is shaded, one leaves


@attrs.frozen
class Tile:
    """A rectangle of the terrain, in samples."""

    x: int
    y: int
    width: int
    height: int

    @property
    def staged_bytes(self) -> int:
        """Bytes of its elevations, border included."""
        return (self.width + 2 * BORDER) * (self.height + 2 * BORDER) * 4

    def stage(self, terrain: Terrain, into: NDArray[np.float32]) -> None:
        """Copy its elevations and border to ``into``, (height + 2, width + 2).

        Beyond the terrain's edge its last sample is repeated.
        """
        rows, columns = terrain.elevation.shape
        top, left = self.y - BORDER, self.x - BORDER
        bottom, right = self.y + self.height + BORDER, self.x + self.width + BORDER
        if top >= 0 and left >= 0 and bottom <= rows and right <= columns:
            np.copyto(into, terrain.elevation[top:bottom, left:right])
            return
        down = np.clip(np.arange(top, bottom), 0, rows - 1)
        across = np.clip(np.arange(left, right), 0, columns - 1)
        np.copyto(into, terrain.elevation[np.ix_(down, across)])

    def place(self, picture: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> None:
        """Put its shade in the picture."""
        picture[self.y : self.y + self.height, self.x : self.x + self.width] = pixels


def tiles(terrain: Terrain, side: int) -> Iterator[Tile]:
    """Yield the tiles that cover the terrain, at most ``side`` samples a side."""
    height, width = terrain.elevation.shape
    if side < PIXELS_PER_THREAD or side % PIXELS_PER_THREAD:
        raise UsageError(f"a tile's side is a multiple of {PIXELS_PER_THREAD} samples, not {side}")
    for y in range(0, height, side):
        for x in range(0, width, side):
            yield Tile(x, y, min(side, width - x), min(side, height - y))


@attrs.frozen
class StreamReport:
    """What one run did. Times in seconds, sizes in bytes."""

    backend: str
    device: str
    tiles: int
    bytes_up: int
    bytes_down: int
    seconds: float
    ring_count: int
    buffer_size: int
    buffer_stalls: int
    peak_bytes_in_flight: int
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
    def correct(self) -> bool:
        return self.wrong_tiles == 0


def shade_terrain(
    device: Device,
    terrain: Terrain,
    *,
    side: int = 512,
    light: Light | None = None,
    ring_count: int = 3,
    buffer_size: int | str = "4 MiB",
    tolerance: int = 1,
    progress: Callable[[str, int, int], None] = lambda _phase, _done, _all: None,
) -> tuple[NDArray[np.uint8], StreamReport]:
    """Shade ``terrain`` on ``device`` and return the picture (height, width) and what it took.

    ``progress(phase, done, all)`` is called for each tile, first while streaming, then while checking
    against numpy; only the streaming is timed. A tile that differs by more than ``tolerance`` grey
    levels is wrong. Raises :class:`TooLarge` when a tile does not fit in a block of the ring.
    """
    light = light or Light()
    plan = list(tiles(terrain, side))
    picture = np.zeros(terrain.elevation.shape, np.uint8)
    kernel = device.create_kernel(HILLSHADE)
    inputs = [device.create_buffer(plan[0].staged_bytes, label=f"elevation {i}") for i in range(DEPTH)]
    outputs = [device.create_buffer(plan[0].width * plan[0].height, label=f"shade {i}") for i in range(DEPTH)]
    coming: deque[tuple[Tile, ReadbackHandle]] = deque()
    flying = 0

    def land() -> None:
        tile, handle = coming.popleft()
        tile.place(picture, handle.wait())

    with (
        device.staging_ring(ring_count=ring_count, buffer_size=buffer_size) as ring,
        device.readback_pool(max_pending_ops=DEPTH, buffer_size=plan[0].width * plan[0].height) as pool,
    ):
        start = time.perf_counter()
        for number, tile in enumerate(plan):
            elevation, out = inputs[number % DEPTH], outputs[number % DEPTH]
            slot = ring.reserve(tile.staged_bytes)
            tile.stage(terrain, slot.array(np.float32, (tile.height + 2 * BORDER, tile.width + 2 * BORDER)))
            slot.commit(elevation)
            staged = ring.advance()
            commands = device.command_list(label=f"tile {number}").dispatch(
                kernel,
                [elevation, out],
                light.params(tile.width, tile.height, terrain.dx, terrain.dy),
                threads=(tile.width // PIXELS_PER_THREAD, tile.height),
            )
            device.submit(commands, after=[staged])
            coming.append((tile, pool.read(out, shape=(tile.height, tile.width))))
            flying = max(flying, ring.stats().bytes_in_flight)
            if len(coming) == DEPTH:
                land()
            progress("streaming", number + 1, len(plan))
        while coming:
            land()
        seconds = time.perf_counter() - start
        ring_stats, pool_stats = ring.stats(), pool.stats()
        metrics = device.budget.metrics()
    for buffer in (*inputs, *outputs):
        buffer.close()
    wrong, largest = _compare(plan, terrain, light, picture, tolerance, progress)
    report = StreamReport(
        backend=device.info.backend,
        device=device.info.name,
        tiles=len(plan),
        bytes_up=ring_stats.bytes_staged,
        bytes_down=pool_stats.bytes_read,
        seconds=seconds,
        ring_count=ring_stats.ring_count,
        buffer_size=ring_stats.buffer_size,
        buffer_stalls=ring_stats.buffer_stalls,
        peak_bytes_in_flight=flying,
        readback_waits=pool_stats.waits,
        peak_host_visible_bytes=metrics.peak_host_visible_bytes,
        limit_bytes=metrics.limit_bytes,
        wrong_tiles=wrong,
        largest_difference=largest,
    )
    return picture, report


def _compare(
    plan: list[Tile],
    terrain: Terrain,
    light: Light,
    picture: NDArray[np.uint8],
    tolerance: int,
    progress: Callable[[str, int, int], Any],
) -> tuple[int, int]:
    """Return how many tiles differ from numpy by more than ``tolerance``, and the largest difference."""
    wrong = largest = 0
    for number, tile in enumerate(plan):
        window = np.empty((tile.height + 2 * BORDER, tile.width + 2 * BORDER), np.float32)
        tile.stage(terrain, window)
        _, _, *scales = light.params(tile.width, tile.height, terrain.dx, terrain.dy)
        expected = shade(window, *scales).astype(np.int16)
        got = picture[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
        difference = int(np.abs(got - expected).max())
        largest = max(largest, difference)
        wrong += difference > tolerance
        progress("checking", number + 1, len(plan))
    return wrong, largest
