"""CuPy by its own means, and the runtime's calls by hand."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.kernels import INCREMENT
from forge3d_conformance.speed.contestant import Runner, unknown
from forge3d_conformance.speed.payload import payload
from forge3d_conformance.speed.peers.cuda_demo import CudaDemo
from forge3d_conformance.speed.peers.cuda_frames import FRAMES, CudaFrames
from forge3d_conformance.speed.peers.cuda_workers import DISABLE_TIMING, DOWN, UP, CudaWorkers
from forge3d_conformance.speed.terrain import blank, check, hills
from forge3d_core.demo import bands
from forge3d_core.protocols import Device

ROW, PITCH = 4004, 4096  # bytes of a row that needs padding, and of one that has it


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
            "rows": self._rows,
            "record-query": self._record_and_query,
            "frames": self._frames,
            "demo": self._demo,
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
        wait = self._cupy.cuda.get_current_stream().synchronize
        return Runner(lambda: kernel((4,), (64,), arguments), wait)

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
        memory, source = self._cupy.empty(nbytes, np.uint8), payload(nbytes)
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
        memory, host = self._cupy.zeros(nbytes, np.uint8), payload(nbytes)
        workers = CudaWorkers(self._cupy)
        move = workers.up if kind == UP else workers.down

        def close(_kept: object = memory) -> None:
            workers.close()

        return Runner(lambda: move(memory.data.ptr, host), close=close)

    def _rows(self, nbytes: int) -> Runner:
        """The same rows of padded memory, gathered on the device and got."""
        padded = self._cupy.zeros((nbytes // ROW, PITCH), np.uint8)
        return Runner(lambda: padded[:, :ROW].get())

    def _record_and_query(self, _nbytes: int) -> Runner:
        runtime, stream = self._runtime, self._stream.ptr
        event = runtime.eventCreateWithFlags(DISABLE_TIMING)

        def call() -> None:
            runtime.eventRecord(event, stream)
            runtime.eventQuery(event)

        return Runner(call, self._stream.synchronize, close=lambda: runtime.eventDestroy(event))

    def _demo(self, nbytes: int) -> Runner:
        terrain = hills(nbytes)
        plan, picture = list(bands(terrain)), blank(terrain)
        demo = CudaDemo(self._cupy, terrain, plan)
        demo.run(picture)
        check(plan, terrain, picture)
        return Runner(lambda: demo.run(picture), close=demo.close)

    def _frames(self, nbytes: int) -> Runner:
        """Pinned memory up, a kernel, pinned memory down: three streams in a row, three frames under way."""
        frames = CudaFrames(self._cupy, nbytes)
        return Runner(frames.run, operations=FRAMES, close=frames.close)


def make(_device: Device) -> Cupy:
    return Cupy()
