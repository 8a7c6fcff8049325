"""Device memory: buffers and textures, their zeroing, and arrays that are adopted."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import threading
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from forge3d_core.errors import DeviceLost, ForgeError, OutOfDeviceMemory, UsageError
from forge3d_core.units import MIB, align_up, format_bytes
from forge3d_cuda.errors import OUT_OF_MEMORY, status_of, translate

GRANULE = 512  # what a CUDA memory pool rounds an allocation up to
KEEP_BYTES = 256 * MIB  # freed memory that the pool may keep for reuse; the rest goes back to the driver
_LEGACY_STREAM = 1
_PINNED, _NO_HANDLE, _ON_DEVICE = 1, 0, 1  # cudaMemPoolProps
_DEVICE_MEMORY, _MANAGED_MEMORY = 2, 3  # cudaMemoryType
_ON_THE_DEVICE = 3  # cudaMemcpyKind


class Allocation:
    """One allocation of the pool; gives itself back when the last array over it is gone.

    So an array that CuPy or PyTorch shares with a closed buffer stays valid memory.
    """

    __slots__ = ("_pool", "number", "ptr")

    def __init__(self, pool: DevicePool, ptr: int) -> None:
        self._pool = pool
        self.ptr = ptr
        self.number = pool.show()

    def __del__(self) -> None:
        self._pool.release(self)


@attrs.define(eq=False)
class DevicePool:
    """Memory of one device, from a CUDA memory pool of our own.

    ``cudaFree`` waits for all work on the device, so memory goes back with ``cudaFreeAsync``, on a
    stream that nothing but memory uses. New memory is zeroed on that stream; ``ready`` is an event
    behind the newest zeroing and ``gate`` counts them, so that a lane waits for ``ready`` only when
    ``gate`` has moved since it last did.

    Thread-safety: all methods may be called from any thread, with the pool's device current.
    """

    _cupy: Any
    index: int
    _runtime: Any
    _stream: int
    _pool: int | None  # None where the driver has no memory pools: then cudaMalloc and cudaFree
    ready: int
    gate: int = 0
    _owner: int = attrs.field(factory=os.getpid)
    _handles: list[tuple[Callable[[int], None], int]] = attrs.field(factory=list)  # and how each is destroyed
    _shown: set[int] = attrs.field(factory=set)  # the numbers of what arrays still show
    _numbers: itertools.count[int] = attrs.field(factory=itertools.count)
    _open: bool = True
    _lock: Any = attrs.field(factory=threading.Lock)

    @classmethod
    def on(cls, cupy: Any, index: int, *, pooled: bool | None = None) -> DevicePool:
        """Make a pool on the current device; ``pooled=False`` does without CUDA's memory pools."""
        runtime = cupy.cuda.runtime
        if pooled is None:
            pooled = bool(runtime.deviceGetAttribute(runtime.cudaDevAttrMemoryPoolsSupported, index))
        stream = runtime.streamCreateWithFlags(runtime.streamNonBlocking)
        ready = runtime.eventCreateWithFlags(runtime.eventDisableTiming)
        handles = [(runtime.streamDestroy, stream), (runtime.eventDestroy, ready)]
        pool = None
        if pooled:
            pool = runtime.memPoolCreate(runtime.MemPoolProps(_PINNED, _NO_HANDLE, _ON_DEVICE, index))
            runtime.memPoolSetAttribute(pool, runtime.cudaMemPoolAttrReleaseThreshold, KEEP_BYTES)
            handles.insert(0, (runtime.memPoolDestroy, pool))
        return cls(cupy, index, runtime, stream, pool, ready, handles=handles)

    def warm_up(self) -> None:
        """Make CUDA load its own fill and copy kernels now.

        It would load them at their first use, and loading waits for kernels that are running.
        """
        scratch = self.allocate((2, 4096))
        ptr, runtime, stream = scratch.data.ptr, self._runtime, self._stream
        runtime.memsetAsync(ptr + 1, 1, 1, stream)
        runtime.memsetAsync(ptr + 1, 1, 4093, stream)
        runtime.memcpyAsync(ptr + 4097, ptr + 1, 4093, _ON_THE_DEVICE, stream)
        runtime.memcpy2DAsync(ptr + 4096, 64, ptr, 64, 3, 8, _ON_THE_DEVICE, stream)
        runtime.streamSynchronize(stream)

    def allocate(self, shape: tuple[int, ...]) -> Any:
        """Return a zeroed ``uint8`` array of ``shape``."""
        nbytes = math.prod(shape)
        size = align_up(nbytes, GRANULE)
        with self._lock:  # so that ``ready`` lies behind every zeroing that ``gate`` counts
            try:
                ptr = self._take(size)
            except RuntimeError as error:
                raise self._refusal(error, nbytes) from error
            allocation = Allocation(self, ptr)
            try:
                self._runtime.memsetAsync(ptr, 0, size, self._stream)
                self._announce()
                # CuPy and PyTorch work on the legacy default stream unless told otherwise: what they
                # write through ``native`` must not be overtaken by the zeroing.
                self._runtime.streamWaitEvent(_LEGACY_STREAM, self.ready)
            except RuntimeError as error:
                raise translate(error, f"zeroing {nbytes} bytes") from error
        return self._array(ptr, shape, allocation)

    def _take(self, size: int) -> int:
        if self._pool is None:
            return int(self._runtime.malloc(size))
        try:
            return int(self._runtime.mallocFromPoolAsync(size, self._pool, self._stream))
        except RuntimeError as error:
            if status_of(error) != OUT_OF_MEMORY:
                raise
            # What was freed may lie in pieces that are too small; only zeroings are waited for.
            self._runtime.streamSynchronize(self._stream)
            self._runtime.memPoolTrimTo(self._pool, 0)
            return int(self._runtime.mallocFromPoolAsync(size, self._pool, self._stream))

    def _refusal(self, error: RuntimeError, nbytes: int) -> ForgeError:
        if status_of(error) != OUT_OF_MEMORY:
            return translate(error, f"allocating {nbytes} bytes")
        free, total = self._runtime.memGetInfo()
        return OutOfDeviceMemory(
            f"CUDA device {self.index} has no {format_bytes(nbytes)} left: {format_bytes(free)} of "
            f"{format_bytes(total)} are free; close buffers, or end other programs on the device"
        )

    def _array(self, ptr: int, shape: tuple[int, ...], owner: object) -> Any:
        cuda = self._cupy.cuda
        memory = cuda.UnownedMemory(ptr, math.prod(shape), owner, self.index)
        return self._cupy.ndarray(shape, np.uint8, cuda.MemoryPointer(memory, 0))

    def _announce(self) -> None:
        self._runtime.eventRecord(self.ready, self._stream)
        self.gate += 1

    def show(self) -> int:
        """Return a number for an allocation that arrays will show; an address may be another's once freed."""
        number = next(self._numbers)
        self._shown.add(number)
        return number

    def release(self, allocation: Allocation) -> None:
        """Give it back behind what is queued on the memory stream; never raises."""
        if os.getpid() != self._owner:
            return  # a forked child has copies of our handles and no device behind them
        try:
            # Never ``cudaFree`` for memory of a pool, closed or not: it waits for every kernel on the device.
            if self._pool is not None:
                self._runtime.freeAsync(allocation.ptr, self._stream)
            else:
                self._runtime.free(allocation.ptr)
        except Exception:
            pass  # the device is lost, or the process ends: there is nothing left to give back
        self._shown.discard(allocation.number)
        self._leave()

    def adopt(self, native: Any) -> Any:
        """Return a ``uint8`` array over the caller's memory, ordered behind what its stream holds now."""
        address, nbytes, stream = _described(native)
        try:
            pointer = self._runtime.pointerGetAttributes(address)
        except RuntimeError as error:
            failure = translate(error, "looking up the adopted pointer")
            if isinstance(failure, DeviceLost):
                raise failure from error
            raise UsageError(f"{address:#x} is not memory that CUDA knows: {error}") from error
        if pointer.type not in (_DEVICE_MEMORY, _MANAGED_MEMORY):
            raise UsageError(f"{type(native).__name__} at {address:#x} is not in device memory")
        if pointer.device != self.index:
            raise UsageError(
                f"the array is on CUDA device {pointer.device}, this is device {self.index}; copy it over"
            )
        with self._lock:
            try:
                produced = self._runtime.eventCreateWithFlags(self._runtime.eventDisableTiming)
                try:
                    self._runtime.eventRecord(produced, stream)
                    self._runtime.streamWaitEvent(self._stream, produced)
                    self._announce()
                finally:
                    self._runtime.eventDestroy(produced)  # CUDA keeps it until nothing waits for it
            except RuntimeError as error:
                raise translate(error, "ordering behind the adopted array's stream") from error
        return self._array(address, (nbytes,), native)

    def close(self) -> None:
        """Give the pool back; memory that arrays still show follows with the last of them."""
        self._open = False
        self._leave()

    def _leave(self) -> None:
        """Destroy stream and pool, once, when the pool is closed and no array shows its memory.

        Destroyed earlier, a pool would keep that memory from the driver for good (32 MiB at a time).
        """
        if self._open or self._shown:
            return
        with contextlib.suppress(IndexError):  # none left; each is popped once, by one thread
            while True:
                destroy, handle = self._handles.pop()
                with contextlib.suppress(RuntimeError):  # lost devices refuse this too
                    destroy(handle)


def _described(native: Any) -> tuple[int, int, int]:
    """Return address, bytes and producing stream of an object with ``__cuda_array_interface__``."""
    try:
        interface = native.__cuda_array_interface__
    except Exception as error:  # torch raises what it likes for tensors that it cannot describe
        raise UsageError(
            f"cannot adopt {type(native).__name__}: it needs __cuda_array_interface__, as a cupy.ndarray "
            f"or a detached CUDA tensor has ({error})"
        ) from error
    address, read_only = interface["data"]
    shape = tuple(interface["shape"])
    dtype = np.dtype(interface["typestr"])
    nbytes = math.prod(shape) * dtype.itemsize
    if not nbytes:
        raise UsageError("cannot adopt an empty array")
    if read_only:
        raise UsageError("cannot adopt a read-only array")
    if not _contiguous(shape, interface.get("strides"), dtype.itemsize):
        raise UsageError(f"cannot adopt an array of shape {shape} that is not C-contiguous; copy it first")
    return int(address), nbytes, interface.get("stream") or _LEGACY_STREAM


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> bool:
    expected = itemsize
    for length, stride in zip(reversed(shape), reversed(strides or ()), strict=False):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return True
