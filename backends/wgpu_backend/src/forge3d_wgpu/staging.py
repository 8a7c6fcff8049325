"""Host-visible memory: mappable buffers, written and read in place.

A block is mapped whenever no submission names it. wgpu wants the buffers of a submission unmapped, so
each submission unmaps its blocks, and the map that follows it resolves only when the device has
finished with them: the map *is* the fence.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import attrs
import numpy as np
import wgpu
from numpy.typing import NDArray
from wgpu.backends.wgpu_native import ffi, lib
from wgpu.backends.wgpu_native._api import libf

from forge3d_core.driver import Direction
from forge3d_core.errors import ForgeError
from forge3d_core.units import align_up
from forge3d_wgpu.errors import NativeErrors

WORD = 4
"""WebGPU copies and maps whole words."""


@attrs.define(eq=False)
class Signal:
    """A callback that wgpu owes us. It may fire on any thread that polls the device."""

    fired: bool = False
    failed: bool = attrs.field(default=False, init=False)
    _id: int = attrs.field(default=0, init=False)

    def announce(self) -> Any:
        """Return what to give to wgpu as user data; keeps this signal alive until it fires."""
        self._id = next(_ids)
        _owed[self._id] = self
        return ffi.cast("void*", self._id)

    def withdraw(self) -> None:
        """wgpu refused the request: the callback will never come."""
        _owed.pop(self._id, None)


# wgpu holds plain C pointers: one callback of each type for the process, never collected, and the
# number of a signal as its user data. Single dict operations are atomic.
_ids = itertools.count(1)
_owed: dict[int, Signal] = {}


def _fire(status: int, success: int, ident: Any) -> None:
    signal = _owed.pop(int(ffi.cast("uintptr_t", ident)), None)
    if signal is not None:
        signal.failed = status != success
        signal.fired = True


@ffi.callback("WGPUBufferMapCallback")  # type: ignore[untyped-decorator]
def _mapped(status: int, _message: Any, ident: Any, _unused: Any) -> None:
    _fire(status, lib.WGPUMapAsyncStatus_Success, ident)


@ffi.callback("WGPUQueueWorkDoneCallback")  # type: ignore[untyped-decorator]
def _worked(status: int, _message: Any, ident: Any, _unused: Any) -> None:
    _fire(status, lib.WGPUQueueWorkDoneStatus_Success, ident)


def work_done(queue: Any) -> Signal:
    """Return a signal for the end of all that has been submitted to ``queue`` so far."""
    signal = Signal()
    info = ffi.new(
        "WGPUQueueWorkDoneCallbackInfo*",
        {
            "mode": lib.WGPUCallbackMode_AllowProcessEvents,
            "callback": _worked,
            "userdata1": signal.announce(),
        },
    )
    libf.wgpuQueueOnSubmittedWorkDone(queue._internal, info[0])
    return signal


class MappedMemory:
    """The memory of a buffer from one map to the unmap; arrays over it keep the buffer.

    So no array ever shows memory that was freed, whatever its holder does after close: the last one
    lets go of wgpu-py's buffer, which then gives itself back.
    """

    __slots__ = ("__weakref__", "_buffer", "nbytes", "signal", "writable")

    def __init__(self, buffer: Any, nbytes: int, signal: Signal, *, writable: bool) -> None:
        self._buffer = buffer
        self.nbytes = nbytes
        self.signal = signal  # that the memory is there
        self.writable = writable

    @property
    def __array_interface__(self) -> dict[str, Any]:
        range_ = lib.wgpuBufferGetMappedRange(self._buffer._internal, 0, self._buffer.size)
        address = int(ffi.cast("uintptr_t", range_))
        return {"version": 3, "typestr": "|u1", "shape": (self.nbytes,), "data": (address, not self.writable)}


@attrs.define(eq=False)
class Block:
    """A mappable buffer of ``nbytes``, rounded up to whole words; see ``forge3d_core.driver.HostBlock``."""

    native: Any  # None once released
    nbytes: int
    direction: Direction
    mapping: MappedMemory | None = attrs.field(default=None, init=False)  # None while it is unmapped
    _array: NDArray[np.uint8] | None = attrs.field(default=None, init=False)  # over it, once asked for

    @classmethod
    def create(cls, device: Any, nbytes: int, direction: Direction) -> Block:
        """Allocate a zeroed block. An upload block is mapped already, a readback block is to be mapped.

        (wgpu would back a readback buffer that is mapped at creation with a second buffer.)
        """
        upload = direction == "upload"
        usage = wgpu.BufferUsage
        with NativeErrors(f"allocating {nbytes} bytes of host-visible memory"):
            native = device.create_buffer(
                size=align_up(nbytes, WORD),
                usage=usage.MAP_WRITE | usage.COPY_SRC if upload else usage.MAP_READ | usage.COPY_DST,
                mapped_at_creation=upload,
            )
        block = cls(native, nbytes, direction)
        if upload:
            block._expect(Signal(fired=True))
        return block

    def map(self) -> Signal:
        """Ask for the memory back and return the signal that it is there."""
        signal = Signal()
        info = ffi.new(
            "WGPUBufferMapCallbackInfo*",
            {
                "mode": lib.WGPUCallbackMode_AllowProcessEvents,
                "callback": _mapped,
                "userdata1": signal.announce(),
            },
        )
        mode = lib.WGPUMapMode_Write if self.direction == "upload" else lib.WGPUMapMode_Read
        try:
            libf.wgpuBufferMapAsync(self.native._internal, mode, 0, self.native.size, info[0])
        except wgpu.GPUError:
            signal.withdraw()
            raise
        self._expect(signal)
        return signal

    def unmap(self) -> None:
        if self.mapping is not None:
            libf.wgpuBufferUnmap(self.native._internal)
            self.mapping = self._array = None

    def view(self) -> NDArray[np.uint8]:
        """Return all of it as a fresh 1-d array, so that the core can tell its views apart."""
        if self._array is None:
            # wgpu-native ends the process when it is asked for the memory of a buffer that is not mapped.
            if self.mapping is None or not self.mapping.signal.fired or self.mapping.signal.failed:
                raise ForgeError(
                    f"a host-visible block of {self.nbytes} bytes is not mapped: a submission still uses it"
                )
            self._array = np.asarray(self.mapping)
        return self._array[:]

    def release(self) -> bool:
        """Give the buffer back, or leave that to the last array which shows it; whether none does."""
        native, memory = self.native, weakref.ref(self.mapping) if self.mapping is not None else None
        self.native = self.mapping = self._array = None
        if memory is not None and memory() is not None:
            return False
        native._release()
        return True

    def _expect(self, signal: Signal) -> None:
        self.mapping = MappedMemory(self.native, self.nbytes, signal, writable=self.direction == "upload")
