"""By hand on CUDA: frames that go up, through a kernel and home, on three streams."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.kernels import INCREMENT
from forge3d_conformance.speed.peers.cuda_workers import DISABLE_TIMING, DOWN, UP

FRAMES = 12
DEPTH = 3
GROUP = 64


@attrs.frozen(eq=False)
class Place:
    """What one of the frames under way has for itself."""

    memory: Any
    source: NDArray[np.uint8]
    target: NDArray[np.uint8]
    uploaded: int
    computed: int
    landed: int


class CudaFrames:
    """Twelve frames of ``nbytes`` in a run; three are under way at once."""

    def __init__(self, cupy: Any, nbytes: int) -> None:
        self._cupy = cupy
        self._runtime: Any = cupy.cuda.runtime
        self._nbytes, self._words = nbytes, nbytes // 4
        self._up, self._compute, self._down = (cupy.cuda.Stream(non_blocking=True) for _ in range(3))
        self._kernel = cupy.RawKernel(INCREMENT.sources["cuda"], INCREMENT.name)
        self._places = [self._place() for _ in range(DEPTH)]

    def run(self) -> None:
        runtime, nbytes, words = self._runtime, self._nbytes, self._words
        up, down, compute = self._up.ptr, self._down.ptr, self._compute.ptr
        grid, count = (-(-words // GROUP),), np.uint32(words)
        with self._compute:
            for number in range(FRAMES):
                place = self._places[number % DEPTH]
                pointer = place.memory.data.ptr
                if number >= DEPTH:
                    runtime.eventSynchronize(place.landed)
                runtime.memcpyAsync(pointer, place.source.ctypes.data, nbytes, UP, up)
                runtime.eventRecord(place.uploaded, up)
                runtime.streamWaitEvent(compute, place.uploaded, 0)
                self._kernel(grid, (GROUP,), (place.memory, np.uint32(1), count))
                runtime.eventRecord(place.computed, compute)
                runtime.streamWaitEvent(down, place.computed, 0)
                runtime.memcpyAsync(place.target.ctypes.data, pointer, nbytes, DOWN, down)
                runtime.eventRecord(place.landed, down)
        self._down.synchronize()

    def close(self) -> None:
        for place in self._places:
            for event in (place.uploaded, place.computed, place.landed):
                self._runtime.eventDestroy(event)

    def _place(self) -> Place:
        events = [self._runtime.eventCreateWithFlags(DISABLE_TIMING) for _ in range(3)]
        memory = self._cupy.zeros(self._words, np.uint32)
        return Place(memory, self._pinned(), self._pinned(), *events)

    def _pinned(self) -> NDArray[np.uint8]:
        memory = self._cupy.cuda.alloc_pinned_memory(self._nbytes)
        array = np.frombuffer(memory, np.uint8, self._nbytes)
        array[:] = 7
        return array
