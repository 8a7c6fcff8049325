"""By hand on wgpu-py: the demo's loop, with threads that fill and empty mapped memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.demo import HILLSHADE, Light, Terrain, Tile
from forge3d_core.demo.hillshade import PIXELS_PER_THREAD

DEPTH = 3
CHUNK = 4 << 20
TOGETHER = 8
MAX_WORKERS = 8

Bytes = NDArray[np.uint8]


class WgpuWorkers:
    """Threads fill mapped blocks of 4 MiB; the calling one submits up to eight of them at once."""

    def __init__(self, wgpu: Any, device: Any) -> None:
        self._device, self._queue = device, device.queue
        count = max(1, min(MAX_WORKERS, os.cpu_count() or 1))
        usage = wgpu.BufferUsage.MAP_WRITE | wgpu.BufferUsage.COPY_SRC
        self._blocks = [
            device.create_buffer(size=CHUNK, usage=usage, mapped_at_creation=True)
            for _ in range(2 * count + 2)
        ]
        self._free: SimpleQueue[Any] = SimpleQueue()
        for block in self._blocks:
            self._free.put(block)
        self._count = count
        self._threads = ThreadPoolExecutor(count)

    def up(self, target: Any, source: Bytes) -> None:
        """Copy ``source`` to ``target``; the copies are submitted when this returns."""
        filled: SimpleQueue[tuple[Any, int, int]] = SimpleQueue()
        offsets = iter(range(0, source.nbytes, CHUNK))
        for _ in range(self._count):
            self._threads.submit(self._fill, offsets, source, filled)
        left, flying = -(-source.nbytes // CHUNK), deque[list[tuple[Any, Any]]]()
        while left:
            batch = [filled.get()]
            while len(batch) < TOGETHER and not filled.empty():
                batch.append(filled.get())
            flying.append(self._send(batch, target))
            left -= len(batch)
            if len(flying) > 1:
                self._take_back(flying.popleft())
        while flying:
            self._take_back(flying.popleft())

    def home(self, landing: Any, target: Bytes) -> None:
        """Copy what a mapped buffer holds to ``target``, by all threads."""
        source = np.frombuffer(landing.read_mapped(copy=False), np.uint8)[: target.nbytes]
        step = max(CHUNK // 4, -(-target.nbytes // self._count))
        places = [slice(start, start + step) for start in range(0, target.nbytes, step)]
        list(self._threads.map(lambda place: np.copyto(target[place], source[place]), places))

    def close(self) -> None:
        self._threads.shutdown()
        for block in self._blocks:
            block.destroy()

    def _fill(self, offsets: Iterator[int], source: Bytes, filled: SimpleQueue[tuple[Any, int, int]]) -> None:
        for offset in offsets:
            block, size = self._free.get(), min(CHUNK, source.nbytes - offset)
            memory = np.frombuffer(block._experimental_get_mapped_range(), np.uint8)
            np.copyto(memory[:size], source[offset : offset + size])
            del memory
            filled.put((block, offset, size))

    def _send(self, batch: list[tuple[Any, int, int]], target: Any) -> list[tuple[Any, Any]]:
        encoder = self._device.create_command_encoder()
        for block, offset, size in batch:
            block.unmap()
            encoder.copy_buffer_to_buffer(block, 0, target, offset, size)
        self._queue.submit([encoder.finish()])
        return [(block, block.map_async("WRITE")) for block, _, _ in batch]

    def _take_back(self, batch: list[tuple[Any, Any]]) -> None:
        for block, mapping in batch:
            mapping.sync_wait()
            self._free.put(block)


@attrs.define(eq=False)
class Place:
    """What one of the tiles under way has for itself."""

    elevation: Any
    shades: Any
    params: Any
    landing: Any
    group: Any
    mapping: Any = None


class WgpuDemo:
    """Shades the tiles of ``plan``, which are bands of whole rows."""

    def __init__(self, wgpu: Any, device: Any, terrain: Terrain, plan: list[Tile]) -> None:
        self._wgpu, self._device, self._queue = wgpu, device, device.queue
        self._terrain, self._plan = terrain, plan
        self._scales = np.array(Light().scales(terrain.dx, terrain.dy), np.float32)
        module = device.create_shader_module(code=HILLSHADE.sources["wgsl"])
        self._pipeline = device.create_compute_pipeline(
            layout="auto", compute={"module": module, "entry_point": HILLSHADE.name}
        )
        staged = max(tile.window(terrain).nbytes for tile in plan)
        shaded = max(tile.width * tile.height for tile in plan)
        self._places = [self._place(staged, shaded) for _ in range(DEPTH)]
        self._workers = WgpuWorkers(wgpu, device)

    def run(self, picture: Bytes) -> None:
        coming: deque[tuple[Place, Tile]] = deque()
        for number, tile in enumerate(self._plan):
            if len(coming) == DEPTH:
                self._land(*coming.popleft(), picture)
            place = self._places[number % DEPTH]
            self._shade(place, tile)
            coming.append((place, tile))
        while coming:
            self._land(*coming.popleft(), picture)

    def close(self) -> None:
        self._workers.close()
        for place in self._places:
            for buffer in (place.elevation, place.shades, place.params, place.landing):
                buffer.destroy()

    def _shade(self, place: Place, tile: Tile) -> None:
        window = tile.window(self._terrain)
        self._workers.up(place.elevation, window.reshape(-1).view(np.uint8))
        words, (rows, pitch) = tile.width // PIXELS_PER_THREAD, window.shape
        sizes = np.array((words, tile.height, pitch, rows, *tile.inset), np.uint32)
        self._queue.write_buffer(place.params, 0, np.concatenate([sizes, self._scales.view(np.uint32)]))
        across, down, _ = HILLSHADE.workgroup
        encoder = self._device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(self._pipeline)
        compute.set_bind_group(0, place.group)
        compute.dispatch_workgroups(-(-words // across), -(-tile.height // down))
        compute.end()
        encoder.copy_buffer_to_buffer(place.shades, 0, place.landing, 0, tile.width * tile.height)
        self._queue.submit([encoder.finish()])
        place.mapping = place.landing.map_async("READ_NOSYNC")

    def _land(self, place: Place, tile: Tile, picture: Bytes) -> None:
        place.mapping.sync_wait()
        self._workers.home(place.landing, tile.of(picture).reshape(-1))
        place.landing.unmap()

    def _place(self, staged: int, shaded: int) -> Place:
        usage, make = self._wgpu.BufferUsage, self._device.create_buffer
        elevation = make(size=staged, usage=usage.STORAGE | usage.COPY_DST)
        shades = make(size=shaded, usage=usage.STORAGE | usage.COPY_SRC)
        params = make(size=48, usage=usage.UNIFORM | usage.COPY_DST)
        entries = [
            {"binding": number, "resource": {"buffer": buffer, "offset": 0, "size": buffer.size}}
            for number, buffer in enumerate((elevation, shades, params))
        ]
        layout = self._pipeline.get_bind_group_layout(0)
        group = self._device.create_bind_group(layout=layout, entries=entries)
        landing = make(size=shaded, usage=usage.MAP_READ | usage.COPY_DST)
        return Place(elevation, shades, params, landing, group)
