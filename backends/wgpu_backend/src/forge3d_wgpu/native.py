"""Commands in wgpu-native's own calls, and in wgpu-py's where the library is not the one known here.

wgpu-py makes an object of each native one, checks every argument and captures errors around every call: on
an H200 an encoder with one copy takes 46 us to submit through its objects, and 17 us through the functions of
its cffi library. So the hot path calls those, inside one :class:`~forge3d_wgpu.errors.NativeErrors`.

Both dialects do the same: a method that takes a command's arguments returns a :class:`Step`, to be run on any
number of encoders, and ``encode`` runs steps on a new one. What a step names has been checked, and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import attrs
import wgpu
from wgpu.backends.wgpu_native import ffi, lib
from wgpu.backends.wgpu_native._api import libf

KNOWN = "0.32."
"""The versions of wgpu-py whose library this module was written against."""

WHOLE = lib.WGPU_WHOLE_SIZE
"""The size of a binding that ends where its buffer does."""

_FUNCTIONS = (
    "wgpuDeviceCreateCommandEncoder",
    "wgpuCommandEncoderCopyBufferToBuffer",
    "wgpuCommandEncoderClearBuffer",
    "wgpuCommandEncoderCopyBufferToTexture",
    "wgpuCommandEncoderCopyTextureToBuffer",
    "wgpuCommandEncoderBeginComputePass",
    "wgpuComputePassEncoderSetPipeline",
    "wgpuComputePassEncoderSetBindGroup",
    "wgpuComputePassEncoderDispatchWorkgroups",
    "wgpuComputePassEncoderEnd",
    "wgpuComputePassEncoderRelease",
    "wgpuCommandEncoderFinish",
    "wgpuCommandEncoderRelease",
    "wgpuDeviceCreateBindGroup",
    "wgpuBindGroupRelease",
)

_ASPECTS = {
    "all": lib.WGPUTextureAspect_All,
    "depth": lib.WGPUTextureAspect_DepthOnly,
    "stencil": lib.WGPUTextureAspect_StencilOnly,
}

Step = tuple[Callable[..., Any], tuple[Any, ...]]
"""A call on an encoder, and its arguments behind the encoder."""


class Bound(NamedTuple):
    """A part of a buffer, bound to a kernel."""

    buffer: Any
    offset: int = 0
    nbytes: int = WHOLE


Dispatched = tuple[Any, Any, Any, tuple[int, int, int]]
"""A dispatch of a compute pass: a pipeline, a bind group, its dynamic offset, how many workgroups."""


@attrs.frozen(eq=False)
class Rows:
    """Rows of a texture on their way from or to a buffer."""

    buffer: Any
    offset: int
    pitch: int
    rows: int  # in each slice
    texture: Any
    level: int
    aspect: str
    origin: tuple[int, int, int]
    size: tuple[int, int, int]


class Dialect(Protocol):
    """How commands are put to wgpu."""

    def copy(self, source: Any, source_offset: int, target: Any, target_offset: int, nbytes: int) -> Step: ...

    def clear(self, target: Any, offset: int, nbytes: int) -> Step: ...

    def upload_rows(self, rows: Rows) -> Step: ...

    def download_rows(self, rows: Rows) -> Step: ...

    def compute(self, dispatches: Sequence[Dispatched]) -> Step:
        """Return the step of a compute pass; ``dispatches`` may grow until the step is run."""

    def bind(self, device: Any, layout: Any, bound: Sequence[Bound]) -> Any:
        """Return a bind group, which is given back with the last reference to it."""

    def pipeline(self, native: Any) -> Any:
        """Return what a :class:`Dispatched` has of a ``GPUComputePipeline``."""

    def offset(self, nbytes: int | None) -> Any:
        """Return what a :class:`Dispatched` has of a dynamic offset, if its group has one."""

    def encode(self, device: Any, steps: Iterable[Step]) -> Any:
        """Return a ``WGPUCommandBuffer``, the caller's to submit and to release."""


class DirectCalls:
    """The functions of the cffi library: errors go to the ``NativeErrors`` around them."""

    def __init__(self) -> None:
        self._offsets: dict[int | None, Any] = {None: (0, ffi.NULL)}  # as C arrays: a few, always the same

    def copy(self, source: Any, source_offset: int, target: Any, target_offset: int, nbytes: int) -> Step:
        function = lib.wgpuCommandEncoderCopyBufferToBuffer
        return function, (source._internal, source_offset, target._internal, target_offset, nbytes)

    def clear(self, target: Any, offset: int, nbytes: int) -> Step:
        return lib.wgpuCommandEncoderClearBuffer, (target._internal, offset, nbytes)

    def upload_rows(self, rows: Rows) -> Step:
        buffer, texture, size = _structs(rows)
        return lib.wgpuCommandEncoderCopyBufferToTexture, (buffer, texture, size)

    def download_rows(self, rows: Rows) -> Step:
        buffer, texture, size = _structs(rows)
        return lib.wgpuCommandEncoderCopyTextureToBuffer, (texture, buffer, size)

    def compute(self, dispatches: Sequence[Dispatched]) -> Step:
        return _run_pass, (dispatches,)

    def bind(self, device: Any, layout: Any, bound: Sequence[Bound]) -> Any:
        entries = ffi.new("WGPUBindGroupEntry[]", len(bound))
        for number, (entry, part) in enumerate(zip(entries, bound, strict=True)):
            entry.binding, entry.buffer = number, part.buffer._internal
            entry.offset, entry.size = part.offset, part.nbytes
        group = ffi.new("WGPUBindGroupDescriptor *")
        group.layout, group.entryCount, group.entries = layout._internal, len(bound), entries
        made = libf.wgpuDeviceCreateBindGroup(device._internal, group)
        return ffi.gc(made, lib.wgpuBindGroupRelease)

    def pipeline(self, native: Any) -> Any:
        return native._internal

    def offset(self, nbytes: int | None) -> Any:
        offset = self._offsets.get(nbytes)
        if offset is None:
            offset = self._offsets[nbytes] = (1, ffi.new("uint32_t[1]", [nbytes]))
        return offset

    def encode(self, device: Any, steps: Iterable[Step]) -> Any:
        encoder = lib.wgpuDeviceCreateCommandEncoder(device._internal, ffi.NULL)
        try:
            for function, arguments in steps:
                function(encoder, *arguments)
            return lib.wgpuCommandEncoderFinish(encoder, ffi.NULL)
        finally:
            lib.wgpuCommandEncoderRelease(encoder)


class PublicCalls:
    """wgpu-py's objects, which raise."""

    def copy(self, source: Any, source_offset: int, target: Any, target_offset: int, nbytes: int) -> Step:
        function = _method("copy_buffer_to_buffer")
        return function, (source, source_offset, target, target_offset, nbytes)

    def clear(self, target: Any, offset: int, nbytes: int) -> Step:
        return _method("clear_buffer"), (target, offset, nbytes)

    def upload_rows(self, rows: Rows) -> Step:
        buffer, texture = _dicts(rows)
        return _method("copy_buffer_to_texture"), (buffer, texture, rows.size)

    def download_rows(self, rows: Rows) -> Step:
        buffer, texture = _dicts(rows)
        return _method("copy_texture_to_buffer"), (texture, buffer, rows.size)

    def compute(self, dispatches: Sequence[Dispatched]) -> Step:
        return _run_public_pass, (dispatches,)

    def bind(self, device: Any, layout: Any, bound: Sequence[Bound]) -> Any:
        entries = [
            {
                "binding": number,
                "resource": {"buffer": part.buffer, "offset": part.offset, "size": part.nbytes},
            }
            for number, part in enumerate(bound)
        ]
        return device.create_bind_group(layout=layout, entries=entries)

    def pipeline(self, native: Any) -> Any:
        return native

    def offset(self, nbytes: int | None) -> Any:
        return [] if nbytes is None else [nbytes]

    def encode(self, device: Any, steps: Iterable[Step]) -> Any:
        encoder = device.create_command_encoder()
        for function, arguments in steps:
            function(encoder, *arguments)
        commands = encoder.finish()
        commands._internal, native = None, commands._internal  # ours to release, not its finalizer's
        return native


def choose(version: str, library: Any) -> Dialect:
    """Return the dialect for a version of wgpu-py and its library."""
    known = version.startswith(KNOWN) and all(hasattr(library, name) for name in _FUNCTIONS)
    return DirectCalls() if known else PublicCalls()


CALLS = choose(wgpu.__version__, lib)
"""The dialect of this process."""


def _run_pass(encoder: Any, dispatches: Sequence[Dispatched]) -> None:
    """Encode one compute pass. (WebGPU orders its dispatches as if each had a pass of its own.)"""
    encoding = lib.wgpuCommandEncoderBeginComputePass(encoder, ffi.NULL)
    try:
        set_pipeline = set_group = set_offset = None
        for pipeline, group, offset, groups in dispatches:
            if pipeline is not set_pipeline:
                set_pipeline = pipeline
                lib.wgpuComputePassEncoderSetPipeline(encoding, pipeline)
            if group is not set_group or offset is not set_offset:
                set_group, set_offset = group, offset
                lib.wgpuComputePassEncoderSetBindGroup(encoding, 0, group, *offset)
            lib.wgpuComputePassEncoderDispatchWorkgroups(encoding, *groups)
        lib.wgpuComputePassEncoderEnd(encoding)
    finally:
        lib.wgpuComputePassEncoderRelease(encoding)


def _run_public_pass(encoder: Any, dispatches: Sequence[Dispatched]) -> None:
    encoding = encoder.begin_compute_pass()
    for pipeline, group, offset, groups in dispatches:
        encoding.set_pipeline(pipeline)
        encoding.set_bind_group(0, group, offset)
        encoding.dispatch_workgroups(*groups)
    encoding.end()


def _method(name: str) -> Callable[..., None]:
    def call(encoder: Any, *arguments: Any) -> None:
        getattr(encoder, name)(*arguments)

    return call


def _structs(rows: Rows) -> tuple[Any, Any, Any]:
    (width, height, slices), (x, y, z) = rows.size, rows.origin
    layout = {"offset": rows.offset, "bytesPerRow": rows.pitch, "rowsPerImage": rows.rows}
    buffer = ffi.new("WGPUTexelCopyBufferInfo *", {"layout": layout, "buffer": rows.buffer._internal})
    place = {"texture": rows.texture._internal, "mipLevel": rows.level, "origin": {"x": x, "y": y, "z": z}}
    texture = ffi.new("WGPUTexelCopyTextureInfo *", {**place, "aspect": _ASPECTS[rows.aspect]})
    size = ffi.new("WGPUExtent3D *", {"width": width, "height": height, "depthOrArrayLayers": slices})
    return buffer, texture, size


def _dicts(rows: Rows) -> tuple[dict[str, Any], dict[str, Any]]:
    buffer = {
        "buffer": rows.buffer,
        "offset": rows.offset,
        "bytes_per_row": rows.pitch,
        "rows_per_image": rows.rows,
    }
    aspect = rows.aspect if rows.aspect == "all" else f"{rows.aspect}-only"
    place = {"texture": rows.texture, "mip_level": rows.level, "origin": rows.origin, "aspect": aspect}
    return buffer, place
