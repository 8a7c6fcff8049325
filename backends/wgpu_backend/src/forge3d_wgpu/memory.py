"""Device memory: buffers, and the caller's own."""

from __future__ import annotations

from typing import Any

import wgpu

from forge3d_core.errors import UsageError
from forge3d_core.units import align_up
from forge3d_wgpu.errors import NativeErrors
from forge3d_wgpu.staging import WORD

BUFFER_USAGE = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST


def create_buffer(device: Any, nbytes: int) -> Any:
    """Return a zeroed buffer of ``nbytes``, rounded up to whole words."""
    with NativeErrors(f"allocating a buffer of {nbytes} bytes"):
        return device.create_buffer(size=align_up(nbytes, WORD), usage=BUFFER_USAGE)


def check_adoptable(device: Any, native: Any) -> int:
    """Return the bytes of the caller's own buffer, or raise :class:`UsageError`."""
    if not isinstance(native, wgpu.GPUBuffer):
        raise UsageError(f"the wgpu backend adopts a wgpu.GPUBuffer, not a {type(native).__name__}")
    if native._device is not device:
        raise UsageError("the buffer belongs to another wgpu device; adopt it on the device that made it")
    if native.usage & BUFFER_USAGE != BUFFER_USAGE:
        raise UsageError(
            f"the buffer's usage is {native.usage:#x} and must include STORAGE | COPY_SRC | COPY_DST "
            f"({BUFFER_USAGE:#x}); create it with those"
        )
    if native.size % WORD or not native.size:
        raise UsageError(
            f"the buffer has {native.size} bytes; forge3d adopts whole words: a multiple of 4, not 0"
        )
    if native.map_state != "unmapped":
        raise UsageError(f"the buffer is {native.map_state}; unmap it before it is adopted")
    _check_whole(device, native)
    return int(native.size)


def _check_whole(device: Any, native: Any) -> None:
    """Raise :class:`UsageError` for a buffer that was destroyed: there is no way to ask but to bind it."""
    visibility, kind = wgpu.ShaderStage.COMPUTE, {"type": "storage"}
    entry = {"binding": 0, "resource": {"buffer": native, "offset": 0, "size": WORD}}
    with NativeErrors("adopting a buffer", UsageError):
        layout = device.create_bind_group_layout(
            entries=[{"binding": 0, "visibility": visibility, "buffer": kind}]
        )
        device.create_bind_group(layout=layout, entries=[entry])
