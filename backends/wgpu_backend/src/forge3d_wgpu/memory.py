"""Device memory: buffers, textures, and copies at any byte offset.

WebGPU copies whole words and never within one buffer. What does not fit that goes the long way: the
words around the bytes are copied to a scratch buffer, and a small kernel merges the bytes into the
target word by word, so that neighbouring bytes keep their values. Commands of one queue run in order,
so one scratch buffer serves all submissions: 1 MiB for each device that needs it, not in the budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import attrs
import wgpu

from forge3d_core.driver import Copy, Download, DownloadRows, Fill, Upload, UploadRows
from forge3d_core.errors import UsageError
from forge3d_core.protocols import Binding, KernelSource, Param, TextureFormat
from forge3d_core.units import MIB, align_up
from forge3d_wgpu.errors import NativeErrors
from forge3d_wgpu.kernels import LANGUAGE, Params, Pipeline, compile_source, run
from forge3d_wgpu.staging import WORD

SCRATCH_BYTES = MIB
FILL_BYTES = 64 * MIB  # of one fill dispatch; within every adapter's binding limit
WINDOW = 256  # the most that any adapter asks of a storage binding's offset
GROUP = 64

BUFFER_USAGE = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
TEXTURE_USAGE = wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_SRC | wgpu.TextureUsage.COPY_DST

# WebGPU, "Plain color formats": those with the storage binding capability on every adapter.
STORAGE_FORMATS = frozenset(
    f"{channels}{kind}"
    for channels, kinds in {
        "r32": ("uint", "sint", "float"),
        "rg32": ("uint", "sint", "float"),
        "rgba32": ("uint", "sint", "float"),
        "rgba16": ("uint", "sint", "float"),
        "rgba8": ("unorm", "snorm", "uint", "sint"),
    }.items()
    for kind in kinds
)

_MERGE = """
struct Params { target_start: u32, nbytes: u32, source_start: u32 }
@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> result: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(64)
fn merge(@builtin(global_invocation_id) thread: vec3<u32>) {
    let end = p.target_start + p.nbytes;
    let word = p.target_start / 4u + thread.x;
    if (word * 4u >= end) { return; }
    var bits = result[word];
    for (var lane = 0u; lane < 4u; lane++) {
        let at = word * 4u + lane;
        if (at >= p.target_start && at < end) {
            let origin = p.source_start + at - p.target_start;
            let byte = (source[origin / 4u] >> (origin % 4u * 8u)) & 255u;
            bits = (bits & ~(255u << (lane * 8u))) | (byte << (lane * 8u));
        }
    }
    result[word] = bits;
}
"""
_FILL = """
struct Params { start: u32, nbytes: u32, value: u32 }
@group(0) @binding(0) var<storage, read_write> result: array<u32>;
@group(0) @binding(1) var<uniform> p: Params;

@compute @workgroup_size(64)
fn fill(@builtin(global_invocation_id) thread: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let end = p.start + p.nbytes;
    for (var word = p.start / 4u + thread.x; word * 4u < end; word += groups.x * 64u) {
        var mask = 0xffffffffu;
        if (word * 4u < p.start) { mask &= 0xffffffffu << ((p.start - word * 4u) * 8u); }
        if (word * 4u + 4u > end) { mask &= 0xffffffffu >> ((word * 4u + 4u - end) * 8u); }
        result[word] = (result[word] & ~mask) | (p.value * 0x01010101u & mask);
    }
}
"""

MERGE = KernelSource(
    "merge",
    {LANGUAGE: _MERGE},
    (Binding("source", "read", "u4"), Binding("result", "readwrite", "u4")),
    (Param("target_start"), Param("nbytes"), Param("source_start")),
    (GROUP, 1, 1),
)
FILL = KernelSource(
    "fill",
    {LANGUAGE: _FILL},
    (Binding("result", "readwrite", "u4"),),
    (Param("start"), Param("nbytes"), Param("value")),
    (GROUP, 1, 1),
)


def create_buffer(device: Any, nbytes: int) -> Any:
    """Return a zeroed buffer of ``nbytes``, rounded up to whole words."""
    with NativeErrors(f"allocating a buffer of {nbytes} bytes"):
        return device.create_buffer(size=align_up(nbytes, WORD), usage=BUFFER_USAGE)


def create_texture(
    device: Any,
    width: int,
    height: int,
    format: TextureFormat,
    storage: frozenset[str] = STORAGE_FORMATS,
) -> Any:
    """Return a zeroed 2-d texture; :class:`UsageError` for a format that cannot be copied by rows here."""
    if format.name not in set(wgpu.TextureFormat):
        raise UsageError(f"{format.name!r} is not a texture format that wgpu knows")
    if format.block != (1, 1):
        raise UsageError(
            f"the wgpu backend takes no compressed textures such as {format.name}; decompress first"
        )
    if format.name.startswith(("depth", "stencil")):
        raise UsageError(f"{format.name} cannot be copied by rows in WebGPU; use r32float or r8uint instead")
    usage = TEXTURE_USAGE | (wgpu.TextureUsage.STORAGE_BINDING if format.name in storage else 0)
    with NativeErrors(f"allocating a texture of {width} x {height} {format.name}", UsageError):
        return device.create_texture(size=(width, height, 1), format=format.name, usage=usage)


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


@attrs.define(eq=False)
class Copier:
    """Encodes copies and fills of one device. One thread at a time."""

    device: Any
    _scratch: Any = attrs.field(default=None, init=False)
    _merge: Pipeline | None = attrs.field(default=None, init=False)
    _fill: Pipeline | None = attrs.field(default=None, init=False)

    def upload(self, encoder: Any, command: Upload, params: Params) -> None:
        self.copy_bytes(
            encoder,
            command.block.native,  # type: ignore[attr-defined]
            command.block_offset,
            command.target.native,
            command.offset,
            command.nbytes,
            params,
        )

    def copy(self, encoder: Any, command: Copy, params: Params) -> None:
        self.copy_bytes(
            encoder,
            command.source.native,
            command.source_offset,
            command.target.native,
            command.target_offset,
            command.nbytes,
            params,
        )

    def download(self, encoder: Any, command: Download, params: Params) -> None:
        """Copy the words around the bytes: the core leaves room for them."""
        ragged = command.offset % WORD
        encoder.copy_buffer_to_buffer(
            command.source.native,
            command.offset - ragged,
            command.block.native,  # type: ignore[attr-defined]
            command.block_offset - ragged,
            align_up(command.nbytes + ragged, WORD),
        )

    def upload_rows(self, encoder: Any, command: UploadRows, params: Params) -> None:
        encoder.copy_buffer_to_texture(
            _rows(command),
            {"texture": command.target.native, "origin": (*command.origin, 0)},
            (*command.size, 1),
        )

    def download_rows(self, encoder: Any, command: DownloadRows, params: Params) -> None:
        encoder.copy_texture_to_buffer(
            {"texture": command.source.native, "origin": (*command.origin, 0)},
            _rows(command),
            (*command.size, 1),
        )

    def fill(self, encoder: Any, command: Fill, params: Params) -> None:
        target, offset, nbytes = command.target.native, command.offset, command.nbytes
        if command.value == 0 and offset % WORD == 0 and nbytes % WORD == 0:
            encoder.clear_buffer(target, offset, nbytes)
            return
        if self._fill is None:
            self._fill = compile_source(self.device, FILL)
        for start, size in _chunks(offset, nbytes, FILL_BYTES):
            base, window = _window(target, start, size)
            groups = min(math.ceil((size + WORD) / WORD / GROUP), 65535)
            run(encoder, self._fill, [window], (start - base, size, command.value), params, (groups,))

    def copy_bytes(
        self,
        encoder: Any,
        source: Any,
        source_offset: int,
        target: Any,
        target_offset: int,
        nbytes: int,
        params: Params,
    ) -> None:
        """Copy any bytes: whole words by the copy engine where it can, the rest by merging."""
        if source is target or (target_offset - source_offset) % WORD:
            self._merge_bytes(encoder, source, source_offset, target, target_offset, nbytes, params)
            return
        head = min(-target_offset % WORD, nbytes)
        body = (nbytes - head) // WORD * WORD
        tail = nbytes - head - body
        if body:
            encoder.copy_buffer_to_buffer(source, source_offset + head, target, target_offset + head, body)
        for start, size in ((0, head), (head + body, tail)):
            if size:
                self._merge_bytes(
                    encoder, source, source_offset + start, target, target_offset + start, size, params
                )

    def _merge_bytes(
        self,
        encoder: Any,
        source: Any,
        source_offset: int,
        target: Any,
        target_offset: int,
        nbytes: int,
        params: Params,
    ) -> None:
        # Each by itself: making one may be interrupted or refused, and is made up for next time.
        if self._merge is None:
            self._merge = compile_source(self.device, MERGE)
        if self._scratch is None:
            self._scratch = create_buffer(self.device, SCRATCH_BYTES + WORD)
        for start, size in _chunks(target_offset, nbytes, SCRATCH_BYTES):
            origin = source_offset + start - target_offset
            ragged = origin % WORD
            words = align_up(size + ragged, WORD)
            encoder.copy_buffer_to_buffer(source, origin - ragged, self._scratch, 0, words)
            if ragged == 0 and start % WORD == 0 and size % WORD == 0:
                encoder.copy_buffer_to_buffer(self._scratch, 0, target, start, size)
                continue
            base, window = _window(target, start, size)
            scratch = {"buffer": self._scratch, "offset": 0, "size": words}
            groups = math.ceil((size + WORD) / WORD / GROUP)
            run(encoder, self._merge, [scratch, window], (start - base, size, ragged), params, (groups,))

    def release(self) -> None:
        if self._scratch is not None:
            self._scratch._release()
        for pipeline in (self._merge, self._fill):
            if pipeline is not None:
                pipeline.release()


def _rows(command: UploadRows | DownloadRows) -> dict[str, Any]:
    return {
        "buffer": command.block.native,  # type: ignore[attr-defined]
        "offset": command.block_offset,
        "bytes_per_row": command.row_pitch,
        "rows_per_image": command.size[1],
    }


def _chunks(offset: int, nbytes: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut a run of bytes at multiples of ``most``, so that no two chunks share a word."""
    end = offset + nbytes
    while offset < end:
        stop = min(end, (offset // most + 1) * most)
        yield offset, stop - offset
        offset = stop


def _window(buffer: Any, offset: int, nbytes: int) -> tuple[int, dict[str, Any]]:
    """Return the base of a binding around the bytes, and the binding."""
    base = offset // WINDOW * WINDOW
    return base, {"buffer": buffer, "offset": base, "size": align_up(offset + nbytes, WORD) - base}
