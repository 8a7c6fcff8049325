"""By hand on CUDA: threads that each own a stream and two pinned chunks, and no barrier between them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.speed.peers.crew import Crew

UP, DOWN = 1, 2  # cudaMemcpyKind
DISABLE_TIMING = 2  # cudaEventDisableTiming
CHUNK = 4 << 20
SLOTS = 2
MAX_WORKERS = 8

Bytes = NDArray[np.uint8]


@attrs.frozen(eq=False)
class Chunk:
    """Pinned memory, and the event of the copy that uses it."""

    memory: Bytes
    event: int


@attrs.frozen(eq=False)
class Desk:
    """What one thread has for itself."""

    stream: Any
    chunks: list[Chunk]


class CudaWorkers:
    """Moves pageable memory to the device and back, a chunk a thread at a time.

    Thread-safety: one call at a time.
    """

    def __init__(self, cupy: Any) -> None:
        self._runtime: Any = cupy.cuda.runtime
        count = max(1, min(MAX_WORKERS, os.cpu_count() or 1))
        self._desks = [
            Desk(cupy.cuda.Stream(non_blocking=True), [self._chunk(cupy) for _ in range(SLOTS)])
            for _ in range(count)
        ]
        device = self._runtime.getDevice()
        self._crew = Crew(count, lambda: self._runtime.setDevice(device))

    def up(self, target: int, source: Bytes) -> None:
        """Copy ``source`` to the device's address ``target``; it is there when this returns."""
        self._share(source.nbytes, lambda desk, offsets: self._send(desk, offsets, target, source))

    def down(self, source: int, target: Bytes) -> None:
        """Copy as much as ``target`` holds from the device's address ``source``."""
        self._share(target.nbytes, lambda desk, offsets: self._fetch(desk, offsets, source, target))

    def close(self) -> None:
        self._crew.close()
        for desk in self._desks:
            for chunk in desk.chunks:
                self._runtime.eventDestroy(chunk.event)

    def _chunk(self, cupy: Any) -> Chunk:
        memory = np.frombuffer(cupy.cuda.alloc_pinned_memory(CHUNK), np.uint8, CHUNK)
        memory[:] = 0
        return Chunk(memory, self._runtime.eventCreateWithFlags(DISABLE_TIMING))

    def _share(self, nbytes: int, work: Callable[[Desk, Iterator[int]], None]) -> None:
        offsets = iter(range(0, nbytes, CHUNK))  # its next is one call of C, so threads may share it
        self._crew.each(lambda index: work(self._desks[index], offsets))

    def _send(self, desk: Desk, offsets: Iterator[int], target: int, source: Bytes) -> None:
        runtime, stream = self._runtime, desk.stream.ptr
        for turn, offset in enumerate(offsets):
            chunk = desk.chunks[turn % SLOTS]
            size = min(CHUNK, source.nbytes - offset)
            runtime.eventSynchronize(chunk.event)
            np.copyto(chunk.memory[:size], source[offset : offset + size])
            runtime.memcpyAsync(target + offset, chunk.memory.ctypes.data, size, UP, stream)
            runtime.eventRecord(chunk.event, stream)
        desk.stream.synchronize()

    def _fetch(self, desk: Desk, offsets: Iterator[int], source: int, target: Bytes) -> None:
        runtime, stream = self._runtime, desk.stream.ptr
        landing: list[tuple[int, int, Chunk]] = []

        def land() -> None:
            offset, size, chunk = landing.pop(0)
            runtime.eventSynchronize(chunk.event)
            np.copyto(target[offset : offset + size], chunk.memory[:size])

        for turn, offset in enumerate(offsets):
            if len(landing) == SLOTS:
                land()
            chunk = desk.chunks[turn % SLOTS]
            size = min(CHUNK, target.nbytes - offset)
            runtime.memcpyAsync(chunk.memory.ctypes.data, source + offset, size, DOWN, stream)
            runtime.eventRecord(chunk.event, stream)
            landing.append((offset, size, chunk))
        while landing:
            land()
