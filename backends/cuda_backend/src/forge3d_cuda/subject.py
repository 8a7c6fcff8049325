"""What the CUDA backend lends the conformance suite; found by entry point, imports nothing of the suite."""

from __future__ import annotations

import atexit
import ctypes
import gc
import threading
from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.driver import Dispatch
from forge3d_core.errors import ForgeError
from forge3d_core.protocols import Binding, Buffer, KernelSource, Param
from forge3d_cuda.errors import OUT_OF_MEMORY

ESCAPE_SECONDS = 30  # a hold that is never released must not hang the device
FLAG_BYTES = 64
LEGACY_STREAM = 1
LOST = "an error that loses a CUDA device loses it for the whole process, and the suite with it"

SPIN = KernelSource(
    "spin",
    {
        "cuda": """
extern "C" __global__ void spin(volatile unsigned int* released, unsigned int seconds) {
    unsigned long long start, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
    do {
        asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    } while (!*released && now - start < seconds * 1000000000ull);
}
"""
    },
    (Binding("released", "readwrite", "u4"),),
    (Param("seconds"),),
    (1, 1, 1),
)


@attrs.frozen(eq=False)
class Flag:
    """A word of page-locked memory that the kernel reads and the host sets."""

    native: Any  # a cupy.ndarray over the page-locked memory
    word: NDArray[np.uint32]
    nbytes: int = FLAG_BYTES

    @classmethod
    def make(cls, cupy: Any, index: int) -> Flag:
        pinned = cupy.cuda.alloc_pinned_memory(FLAG_BYTES)
        word = np.frombuffer(pinned, np.uint32, 1)
        memory = cupy.cuda.UnownedMemory(pinned.ptr, FLAG_BYTES, pinned, index)
        native = cupy.ndarray((FLAG_BYTES,), np.uint8, cupy.cuda.MemoryPointer(memory, 0))
        return cls(native, word)


@attrs.define(eq=False)
class Stillness:
    """Keeps Python's garbage collector still while a kernel spins.

    It may find the last array over page-locked memory of a device that was closed earlier, and
    ``cudaFreeHost`` waits for every kernel of the process: also for the one that spins until the very
    thread which is inside the collector lets go of it.
    """

    _spinning: set[Flag] = attrs.field(factory=set)
    _collecting: bool = False  # whether it was on before
    _lock: Any = attrs.field(factory=threading.Lock)

    def begin(self, flag: Flag) -> None:
        with self._lock:
            if not self._spinning:
                self._collecting = gc.isenabled()
                gc.disable()
            self._spinning.add(flag)

    def end(self, flag: Flag) -> None:
        """Let it work again when no kernel spins; ends once for each flag, however often it is asked."""
        with self._lock:
            if flag not in self._spinning:
                return
            self._spinning.discard(flag)
            if self._collecting and not self._spinning:
                gc.enable()


@attrs.define(eq=False)
class SpinningLane:
    """A lane on which a kernel spins until the flag is set."""

    _driver: Any
    _token: Any
    _flag: Flag
    _stillness: Stillness
    _released: bool = False

    @property
    def held(self) -> bool:
        return not self._released and not self.over

    @property
    def over(self) -> bool:
        """Whether the kernel has ended, so that the flag may serve another."""
        try:
            return bool(self._driver.query(self._token))
        except ForgeError:
            return True

    def release(self) -> None:
        self._released = True
        self._flag.word[0] = 1
        self._stillness.end(self._flag)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class CudaSubject:
    """Holds a lane with a kernel that spins on a flag; looks at memory through the legacy stream.

    That stream is ordered behind the zeroing of fresh memory and behind no lane.
    """

    capabilities = frozenset({"hold", "peek", "adopt", "enqueue", "host_pressure"})
    unsupported = (("fence.failure-sticks", LOST), ("device.lost", LOST))

    def __init__(self) -> None:
        self._holding: list[SpinningLane] = []  # keeps each flag until its kernel has seen it
        self._stillness = Stillness()
        atexit.register(_stay, self)

    def hold(self, device: Any, lane: str, seconds: float) -> SpinningLane:
        import cupy

        kernel = device.create_kernel(SPIN)  # the device keeps it; kept here it would keep the device
        with device.native:
            flag = Flag.make(cupy, device.native.id)
        flag.word[0] = 0
        command = Dispatch(kernel, (flag,), (ESCAPE_SECONDS,), (1, 1, 1))
        self._stillness.begin(flag)
        try:
            token = device.driver.submit(lane, [command], ())
        except BaseException:
            self._stillness.end(flag)
            raise
        held = SpinningLane(device.driver, token, flag, self._stillness)
        self._holding = [*(earlier for earlier in self._holding if not earlier.over), held]
        return held

    def peek(self, device: Any, buffer: Buffer, offset: int, nbytes: int) -> bytes:
        data = np.empty(nbytes, np.uint8)
        self._copy(device, data.ctypes.data, buffer.native.data.ptr + offset, nbytes)
        return data.tobytes()

    def poke(self, device: Any, buffer: Buffer, offset: int, data: bytes) -> None:
        source = np.frombuffer(data, np.uint8)
        self._copy(device, buffer.native.data.ptr + offset, source.ctypes.data, len(data))

    def foreign(self, device: Any, nbytes: int) -> Any:
        import cupy

        with device.native:
            return cupy.zeros(nbytes, np.uint8)  # on the legacy stream, which adoption is ordered behind

    def enqueue(self, device: Any, buffer: Buffer, value: int) -> None:
        """Fill it on the legacy default stream, where CuPy and PyTorch work unless told otherwise."""
        import cupy

        with device.native:
            cupy.cuda.runtime.memsetAsync(buffer.native.data.ptr, value, buffer.nbytes, LEGACY_STREAM)

    def fail_next_allocation(self, device: Any) -> None:
        """Have the runtime refuse to page-lock once, as it does when memory has run out."""
        staging = device.driver._staging
        staging._runtime = OutOfMemory(staging, staging._runtime)

    def _copy(self, device: Any, target: int, source: int, nbytes: int) -> None:
        import cupy

        runtime = cupy.cuda.runtime
        with device.native:
            runtime.memcpy(target, source, nbytes, runtime.memcpyDefault)
            # A copy of 64 KiB and less from pageable memory returns once it is staged, perhaps not yet done.
            runtime.streamSynchronize(LEGACY_STREAM)


@attrs.define(eq=False)
class OutOfMemory:
    """The CUDA runtime, but for one allocation."""

    _staging: Any
    _runtime: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def hostAlloc(self, size: int, flags: int) -> int:
        self._staging._runtime = self._runtime
        raise self._runtime.CUDARuntimeError(OUT_OF_MEMORY)


def _stay(subject: CudaSubject) -> None:
    """Keep the flags as the interpreter ends: to free page-locked memory waits for every kernel."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(subject))
