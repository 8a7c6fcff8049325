"""Copies and fills at any byte offset.

WebGPU copies whole words and never within one buffer. What does not fit that goes the long way: the
words around the bytes are copied to a scratch buffer, and a small kernel merges the bytes into the
target word by word, so that neighbouring bytes keep their values. Commands of one queue run in order,
so one scratch buffer serves all submissions: 1 MiB for each device that needs it, not in the budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from forge3d_core.driver import Copy, Download, DownloadRows, Fill, TextureMemory, Upload, UploadRows
from forge3d_core.formats import block_rows
from forge3d_core.protocols import Binding, KernelSource, Param
from forge3d_core.units import MIB, align_up
from forge3d_wgpu.kernels import LANGUAGE, CompiledKernel, compile_source
from forge3d_wgpu.memory import create_buffer
from forge3d_wgpu.native import Bound, Rows
from forge3d_wgpu.recording import Recording, Translator
from forge3d_wgpu.staging import WORD

SCRATCH_BYTES = MIB
FILL_BYTES = 64 * MIB  # of one fill dispatch; within every adapter's binding limit
WINDOW = 256  # the most that any adapter asks of a storage binding's offset
GROUP = 64
MAX_GROUPS = 65535

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


@attrs.define(eq=False)
class Transfers:
    """Translates the copies and fills of one device. One thread at a time."""

    device: Any
    _scratch: Any = attrs.field(default=None, init=False)
    _merge: CompiledKernel | None = attrs.field(default=None, init=False)
    _fill: CompiledKernel | None = attrs.field(default=None, init=False)

    @property
    def table(self) -> dict[type, Translator]:
        """The translation of each type of command."""
        return {
            Upload: self.upload,
            Download: self.download,
            UploadRows: self.upload_rows,
            DownloadRows: self.download_rows,
            Copy: self.copy,
            Fill: self.fill,
        }

    def upload(self, recording: Recording, command: Upload) -> None:
        source, target = recording.use(command.block), command.target.native
        if command.block_offset % WORD == command.offset % WORD == command.nbytes % WORD == 0:
            recording.copy(source, command.block_offset, target, command.offset, command.nbytes)
        else:
            part = Part(source, command.block_offset, target, command.offset, command.nbytes)
            self._copy(recording, part)

    def copy(self, recording: Recording, command: Copy) -> None:
        source, target = command.source.native, command.target.native
        part = Part(source, command.source_offset, target, command.target_offset, command.nbytes)
        self._copy(recording, part)

    def download(self, recording: Recording, command: Download) -> None:
        """Copy the words around the bytes: the core leaves room for them."""
        ragged = command.offset % WORD
        recording.copy(
            command.source.native,
            command.offset - ragged,
            recording.use(command.block),
            command.block_offset - ragged,
            -(-(command.nbytes + ragged) // WORD) * WORD,
        )

    def upload_rows(self, recording: Recording, command: UploadRows) -> None:
        recording.upload_rows(_rows(recording, command, command.target))

    def download_rows(self, recording: Recording, command: DownloadRows) -> None:
        recording.download_rows(_rows(recording, command, command.source))

    def fill(self, recording: Recording, command: Fill) -> None:
        target, offset, nbytes = command.target.native, command.offset, command.nbytes
        if command.value == 0 and offset % WORD == 0 and nbytes % WORD == 0:
            recording.clear(target, offset, nbytes)
            return
        if self._fill is None:
            self._fill = compile_source(self.device, FILL)
        for start, size in _chunks(offset, nbytes, FILL_BYTES):
            base, window = _window(target, start, size)
            groups = min(-(-(size + WORD) // (WORD * GROUP)), MAX_GROUPS)
            recording.run(self._fill, (window,), (start - base, size, command.value), (groups, 1, 1))

    def _copy(self, recording: Recording, part: Part) -> None:
        """Copy any bytes: whole words by the copy engine where it can, the rest by merging."""
        if part.source is part.target or (part.target_offset - part.source_offset) % WORD:
            self._merge_bytes(recording, part)
            return
        head = min(-part.target_offset % WORD, part.nbytes)
        body = (part.nbytes - head) // WORD * WORD
        if body:
            words = part.cut(head, body)
            recording.copy(words.source, words.source_offset, words.target, words.target_offset, body)
        for start, size in ((0, head), (head + body, part.nbytes - head - body)):
            if size:
                self._merge_bytes(recording, part.cut(start, size))

    def _merge_bytes(self, recording: Recording, part: Part) -> None:
        # Each by itself: where one cannot be made, the next call makes it.
        if self._merge is None:
            self._merge = compile_source(self.device, MERGE)
        if self._scratch is None:
            self._scratch = create_buffer(self.device, SCRATCH_BYTES + WORD)
        for start, size in _chunks(part.target_offset, part.nbytes, SCRATCH_BYTES):
            origin = part.source_offset + start - part.target_offset
            ragged = origin % WORD
            words = align_up(size + ragged, WORD)
            recording.copy(part.source, origin - ragged, self._scratch, 0, words)
            if ragged == 0 and start % WORD == 0 and size % WORD == 0:
                recording.copy(self._scratch, 0, part.target, start, size)
                continue
            base, window = _window(part.target, start, size)
            groups = -(-(size + WORD) // (WORD * GROUP))
            values = (start - base, size, ragged)
            recording.run(self._merge, (Bound(self._scratch), window), values, (groups, 1, 1))

    def release(self) -> None:
        if self._scratch is not None:
            self._scratch._release()
        for kernel in (self._merge, self._fill):
            if kernel is not None:
                kernel.release()


@attrs.frozen(eq=False)
class Part:
    """Bytes on their way from one buffer to another."""

    source: Any
    source_offset: int
    target: Any
    target_offset: int
    nbytes: int

    def cut(self, start: int, nbytes: int) -> Part:
        """Return ``nbytes`` of it from ``start`` on."""
        return Part(self.source, self.source_offset + start, self.target, self.target_offset + start, nbytes)


def _rows(recording: Recording, command: UploadRows | DownloadRows, texture: TextureMemory) -> Rows:
    """Return the rows of a command; WebGPU counts a block that a level ends in as a whole one."""
    (x, y), (width, height), (across, down) = command.origin, command.size, texture.format.block
    return Rows(
        recording.use(command.block),
        command.block_offset,
        command.row_pitch,
        block_rows(height, texture.format),
        texture.native,
        texture.level,
        texture.aspect,
        (x, y, texture.layer + command.slice),
        (align_up(width, across), align_up(height, down), command.slices),
    )


def _chunks(offset: int, nbytes: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut a run of bytes at multiples of ``most``, so that no two chunks share a word."""
    end = offset + nbytes
    while offset < end:
        stop = min(end, (offset // most + 1) * most)
        yield offset, stop - offset
        offset = stop


def _window(buffer: Any, offset: int, nbytes: int) -> tuple[int, Bound]:
    """Return the base of a binding around the bytes, and the binding: of a small buffer, all."""
    if buffer.size <= FILL_BYTES:
        return 0, Bound(buffer)
    base = offset // WINDOW * WINDOW
    return base, Bound(buffer, base, align_up(offset + nbytes, WORD) - base)
