"""Copies and fills: each command as a call of the runtime. Nothing here touches the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from forge3d_core.driver import Copy, Download, DownloadRows, Fill, TextureMemory, Upload, UploadRows
from forge3d_cuda.memory import texture_shape

Call = tuple[Callable[..., object], tuple[Any, ...]]
"""A function and its arguments but the last, which is the stream."""

_TO_DEVICE, _TO_HOST, _ON_THE_DEVICE = 1, 2, 3  # cudaMemcpyKind


@attrs.frozen(eq=False)
class Transfers:
    """Translates the commands that move bytes; addresses are known by then, so this is arithmetic."""

    _copy: Callable[..., object]
    _copy_rows: Callable[..., object]
    _fill: Callable[..., object]

    @classmethod
    def on(cls, runtime: Any) -> Transfers:
        return cls(runtime.memcpyAsync, runtime.memcpy2DAsync, runtime.memsetAsync)

    @property
    def table(self) -> dict[type, Callable[[Any], Call]]:
        """The translation of each type of command."""
        return {
            Upload: self.upload,
            Download: self.download,
            UploadRows: self.upload_rows,
            DownloadRows: self.download_rows,
            Copy: self.copy,
            Fill: self.fill,
        }

    def upload(self, command: Upload) -> Call:
        target = command.target.native.data.ptr + command.offset
        return self._copy, (target, _host(command), command.nbytes, _TO_DEVICE)

    def download(self, command: Download) -> Call:
        source = command.source.native.data.ptr + command.offset
        return self._copy, (_host(command), source, command.nbytes, _TO_HOST)

    def upload_rows(self, command: UploadRows) -> Call:
        source, staged = _host(command), command.row_pitch
        target, pitch, row_bytes, rows = _rectangle(command.target, command.origin, command.size)
        if row_bytes == pitch == staged:  # one run of bytes: the copy engine's fastest form
            return self._copy, (target, source, row_bytes * rows, _TO_DEVICE)
        return self._copy_rows, (target, pitch, source, staged, row_bytes, rows, _TO_DEVICE)

    def download_rows(self, command: DownloadRows) -> Call:
        target, staged = _host(command), command.row_pitch
        source, pitch, row_bytes, rows = _rectangle(command.source, command.origin, command.size)
        if row_bytes == pitch == staged:
            return self._copy, (target, source, row_bytes * rows, _TO_HOST)
        return self._copy_rows, (target, staged, source, pitch, row_bytes, rows, _TO_HOST)

    def copy(self, command: Copy) -> Call:
        source = command.source.native.data.ptr + command.source_offset
        target = command.target.native.data.ptr + command.target_offset
        return self._copy, (target, source, command.nbytes, _ON_THE_DEVICE)

    def fill(self, command: Fill) -> Call:
        target = command.target.native.data.ptr + command.offset
        return self._fill, (target, command.value, command.nbytes)


def _host(command: Any) -> int:
    return int(command.block.address + command.block_offset)


def _rectangle(
    texture: TextureMemory, origin: tuple[int, int], size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return address, pitch, bytes of a row and rows of a region of a texture."""
    block_width, block_height = texture.format.block
    rows, row_bytes = texture_shape(*size, texture.format)
    pitch = texture_shape(texture.width, texture.height, texture.format)[1]
    first = origin[1] // block_height * pitch + origin[0] // block_width * texture.format.block_bytes
    return texture.native.data.ptr + first, pitch, row_bytes, rows
