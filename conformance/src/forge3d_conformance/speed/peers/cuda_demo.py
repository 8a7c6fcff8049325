"""By hand on CUDA: the demo's loop, with workers up, a kernel, and workers home."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.speed.peers.cuda_workers import DISABLE_TIMING, CudaWorkers
from forge3d_core.demo import HILLSHADE, Light, Terrain, Tile
from forge3d_core.demo.hillshade import PIXELS_PER_THREAD

DEPTH = 3


class CudaDemo:
    """Shades the tiles of ``plan``, which are bands of whole rows."""

    def __init__(self, cupy: Any, terrain: Terrain, plan: list[Tile]) -> None:
        self._runtime: Any = cupy.cuda.runtime
        self._terrain, self._plan = terrain, plan
        self._scales = tuple(map(np.float32, Light().scales(terrain.dx, terrain.dy)))
        self._kernel = cupy.RawKernel(HILLSHADE.sources["cuda"], HILLSHADE.name)
        self._compute = cupy.cuda.Stream(non_blocking=True)
        staged = max(tile.window(terrain).nbytes for tile in plan)
        shaded = max(tile.width * tile.height for tile in plan)
        self._inputs = [cupy.zeros(staged, np.uint8) for _ in range(DEPTH)]
        self._outputs = [cupy.zeros(shaded, np.uint8) for _ in range(DEPTH)]
        self._shaded = [self._runtime.eventCreateWithFlags(DISABLE_TIMING) for _ in range(DEPTH)]
        self._up, self._down = CudaWorkers(cupy), CudaWorkers(cupy)
        device = self._runtime.getDevice()
        self._home = ThreadPoolExecutor(1, initializer=lambda: self._runtime.setDevice(device))

    def run(self, picture: NDArray[np.uint8]) -> None:
        coming: deque[Future[None]] = deque()
        with self._compute:
            for number, tile in enumerate(self._plan):
                if len(coming) == DEPTH:
                    coming.popleft().result()
                self._shade(number % DEPTH, tile)
                coming.append(self._home.submit(self._land, number % DEPTH, tile, picture))
        for landed in coming:
            landed.result()

    def close(self) -> None:
        self._home.shutdown()
        self._up.close()
        self._down.close()
        for event in self._shaded:
            self._runtime.eventDestroy(event)

    def _shade(self, place: int, tile: Tile) -> None:
        window = tile.window(self._terrain)
        self._up.up(self._inputs[place].data.ptr, window.reshape(-1).view(np.uint8))
        words, (rows, pitch) = tile.width // PIXELS_PER_THREAD, window.shape
        across, down, _ = HILLSHADE.workgroup
        sizes = map(np.uint32, (words, tile.height, pitch, rows, *tile.inset))
        self._kernel(
            (-(-words // across), -(-tile.height // down)),
            (across, down),
            (self._inputs[place], self._outputs[place], *sizes, *self._scales),
        )
        self._runtime.eventRecord(self._shaded[place], self._compute.ptr)

    def _land(self, place: int, tile: Tile, picture: NDArray[np.uint8]) -> None:
        self._runtime.eventSynchronize(self._shaded[place])
        self._down.down(self._outputs[place].data.ptr, tile.of(picture).reshape(-1))
