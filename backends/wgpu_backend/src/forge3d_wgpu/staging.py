"""Host-visible memory: mappable buffers, written and read in place.

A block is mapped whenever no submission names it. wgpu wants the buffers of a submission unmapped, so
each submission unmaps its blocks, and the map that follows it resolves only when the device has
finished with them: the map *is* the fence.
"""

from __future__ import annotations

import itertools
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


@attrs.define(eq=False)
class Block:
    """A mappable buffer of ``nbytes``, rounded up to whole words; see ``forge3d_core.driver.HostBlock``."""

    native: Any
    nbytes: int
    direction: Direction
    mapping: Signal | None  # the map that was asked for; None while the block is unmapped

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
        block = cls(native, nbytes, direction, mapping=None)
        if upload:
            block.mapping = Signal(fired=True)
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
        self.mapping = signal
        return signal

    def unmap(self) -> None:
        if self.mapping is not None:
            libf.wgpuBufferUnmap(self.native._internal)
            self.mapping = None

    def view(self) -> NDArray[np.uint8]:
        # wgpu-native ends the process when it is asked for the memory of a buffer that is not mapped.
        if self.mapping is None or not self.mapping.fired or self.mapping.failed:
            raise ForgeError(
                f"a host-visible block of {self.nbytes} bytes is not mapped: a submission still uses it"
            )
        address = lib.wgpuBufferGetMappedRange(self.native._internal, 0, self.native.size)
        array = np.frombuffer(ffi.buffer(address, self.nbytes), np.uint8)
        if self.direction == "readback":
            array.flags.writeable = False
        return array

    def release(self) -> None:
        self.native._release()
