"""CuPy by its own means, and the runtime's calls by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.kernels import INCREMENT
from forge3d_conformance.speed.contestant import Runner, unknown
from forge3d_core.protocols import Device

UP, DOWN = 1, 2  # cudaMemcpyKind
DISABLE_TIMING = 2  # cudaEventDisableTiming
CHUNK = 4 << 20
WORKERS = 8


class Cupy:
    name = "cupy"

    def __init__(self) -> None:
        self._cupy: Any = import_module("cupy")
        self._runtime = self._cupy.cuda.runtime
        self._runtime.getDeviceCount()
        self._stream = self._cupy.cuda.Stream(non_blocking=True)
        self._other = self._cupy.cuda.Stream(non_blocking=True)
        self._makers: dict[str, Callable[[int], Runner]] = {
            "launch": self._launch,
            "copy-and-record": self._copy_and_record,
            "set": self._set,
            "get": self._get,
            "get-out": self._get_out,
            "pinned-up": lambda nbytes: self._pinned(nbytes, UP),
            "pinned-down": lambda nbytes: self._pinned(nbytes, DOWN),
            "pinned-both": self._both,
            "workers-up": lambda nbytes: self._workers(nbytes, UP),
            "workers-down": lambda nbytes: self._workers(nbytes, DOWN),
        }

    def runner(self, operation: str, nbytes: int) -> Runner:
        if operation not in self._makers:
            raise unknown(self.name, operation)
        return self._makers[operation](nbytes)

    def close(self) -> None:
        self._cupy.get_default_memory_pool().free_all_blocks()
        self._cupy.get_default_pinned_memory_pool().free_all_blocks()

    def _pinned_array(self, nbytes: int) -> NDArray[np.uint8]:
        array = np.frombuffer(self._cupy.cuda.alloc_pinned_memory(nbytes), np.uint8, nbytes)
        array[:] = 7
        return array

    def _launch(self, _nbytes: int) -> Runner:
        kernel = self._cupy.RawKernel(INCREMENT.sources["cuda"], INCREMENT.name)
        data = self._cupy.zeros(1024, np.uint32)
        arguments = (data, np.uint32(1), np.uint32(256))
        stream = self._stream

        def call() -> None:
            with stream:
                kernel((4,), (64,), arguments)

        return Runner(call, stream.synchronize)

    def _copy_and_record(self, nbytes: int) -> Runner:
        runtime, stream = self._runtime, self._stream.ptr
        memory, pinned = self._cupy.empty(nbytes, np.uint8), self._pinned_array(nbytes)
        event = runtime.eventCreateWithFlags(DISABLE_TIMING)
        target, source = memory.data.ptr, pinned.ctypes.data

        def call() -> None:
            runtime.memcpyAsync(target, source, nbytes, UP, stream)
            runtime.eventRecord(event, stream)

        def close(_kept: object = (memory, pinned)) -> None:
            runtime.eventDestroy(event)

        return Runner(call, self._stream.synchronize, close=close, at_once=1)

    def _set(self, nbytes: int) -> Runner:
        memory, source = self._cupy.empty(nbytes, np.uint8), _data(nbytes)
        wait = self._cupy.cuda.get_current_stream().synchronize

        def call() -> None:
            memory.set(source)
            wait()

        return Runner(call)

    def _get(self, nbytes: int) -> Runner:
        memory = self._cupy.zeros(nbytes, np.uint8)
        return Runner(memory.get)

    def _get_out(self, nbytes: int) -> Runner:
        memory, out = self._cupy.zeros(nbytes, np.uint8), np.zeros(nbytes, np.uint8)
        return Runner(lambda: memory.get(out=out))

    def _pinned(self, nbytes: int, kind: int) -> Runner:
        runtime, stream = self._runtime, self._stream
        memory, pinned = self._cupy.zeros(nbytes, np.uint8), self._pinned_array(nbytes)
        ends = (memory.data.ptr, pinned.ctypes.data) if kind == UP else (pinned.ctypes.data, memory.data.ptr)

        def call(_kept: object = (memory, pinned)) -> None:
            runtime.memcpyAsync(*ends, nbytes, kind, stream.ptr)
            stream.synchronize()

        return Runner(call)

    def _both(self, nbytes: int) -> Runner:
        runtime = self._runtime
        up, down = self._cupy.zeros(nbytes, np.uint8), self._cupy.zeros(nbytes, np.uint8)
        source, target = self._pinned_array(nbytes), self._pinned_array(nbytes)

        def call() -> None:
            runtime.memcpyAsync(up.data.ptr, source.ctypes.data, nbytes, UP, self._stream.ptr)
            runtime.memcpyAsync(target.ctypes.data, down.data.ptr, nbytes, DOWN, self._other.ptr)
            self._stream.synchronize()
            self._other.synchronize()

        return Runner(call)

    def _workers(self, nbytes: int, kind: int) -> Runner:
        """By hand: threads that each own a stream and two pinned chunks, and no barrier between them."""
        runtime = self._runtime
        memory, host = self._cupy.zeros(nbytes, np.uint8), _data(nbytes)
        own = [
            (
                self._cupy.cuda.Stream(non_blocking=True),
                [(self._pinned_array(CHUNK), runtime.eventCreateWithFlags(DISABLE_TIMING)) for _ in range(2)],
            )
            for _ in range(WORKERS)
        ]
        base = memory.data.ptr
        identity = self._cupy.cuda.runtime.getDevice()

        def up(
            offsets: list[int], stream: Any, chunks: list[tuple[NDArray[np.uint8], int]], turn: int
        ) -> None:
            while offsets:
                try:
                    offset = offsets.pop()
                except IndexError:
                    break
                chunk, event = chunks[turn % 2]
                size = min(CHUNK, nbytes - offset)
                runtime.eventSynchronize(event)
                np.copyto(chunk[:size], host[offset : offset + size])
                runtime.memcpyAsync(base + offset, chunk.ctypes.data, size, UP, stream.ptr)
                runtime.eventRecord(event, stream.ptr)
                turn += 1
            stream.synchronize()

        def down(
            offsets: list[int], stream: Any, chunks: list[tuple[NDArray[np.uint8], int]], turn: int
        ) -> None:
            landing: list[tuple[int, int, NDArray[np.uint8], int]] = []

            def land() -> None:
                offset, size, chunk, event = landing.pop(0)
                runtime.eventSynchronize(event)
                np.copyto(host[offset : offset + size], chunk[:size])

            while offsets:
                try:
                    offset = offsets.pop()
                except IndexError:
                    break
                if len(landing) == 2:
                    land()
                chunk, event = chunks[turn % 2]
                size = min(CHUNK, nbytes - offset)
                runtime.memcpyAsync(chunk.ctypes.data, base + offset, size, DOWN, stream.ptr)
                runtime.eventRecord(event, stream.ptr)
                landing.append((offset, size, chunk, event))
                turn += 1
            while landing:
                land()

        crew = _Crew(WORKERS, lambda: runtime.setDevice(identity))

        def call() -> None:
            offsets = list(range(0, nbytes, CHUNK))[::-1]
            work = up if kind == UP else down
            crew.each(lambda index: work(offsets, *own[index], 0))

        def close(_kept: object = memory) -> None:
            crew.close()
            for _, chunks in own:
                for _, event in chunks:
                    runtime.eventDestroy(event)

        return Runner(call, close=close)


class _Crew:
    """Threads that stand ready, since starting them would be what is timed."""

    def __init__(self, size: int, begin: Callable[[], object]) -> None:
        self._go = [threading.Semaphore(0) for _ in range(size)]
        self._done = threading.Semaphore(0)
        self._work: Callable[[int], object] | None = None
        self._begin = begin
        for index in range(size):
            threading.Thread(target=self._run, args=(index,), daemon=True).start()

    def each(self, work: Callable[[int], object]) -> None:
        self._work = work
        for go in self._go:
            go.release()
        for _ in self._go:
            self._done.acquire()

    def close(self) -> None:
        self._work = None
        for go in self._go:
            go.release()

    def _run(self, index: int) -> None:
        self._begin()
        while True:
            self._go[index].acquire()
            if self._work is None:
                return
            self._work(index)
            self._done.release()


def _data(nbytes: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, nbytes, dtype=np.uint8)


def make(_device: Device) -> Cupy:
    return Cupy()
