"""Textures: linear memory, copied by rows. Addresses are known by then, so this is arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import attrs

from forge3d_core.driver import DownloadRows, TextureMemory, UploadRows
from forge3d_core.linear_texture import Box, box_of

Call = tuple[Callable[..., object], tuple[Any, ...]]
"""A function and its arguments but the last, which is the stream."""

_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind


@attrs.frozen(eq=False)
class TextureTransfers:
    """Translates the commands that move texels."""

    _copy: Callable[..., object]
    _copy_rows: Callable[..., object]

    @classmethod
    def on(cls, runtime: Any) -> TextureTransfers:
        return cls(runtime.memcpyAsync, runtime.memcpy2DAsync)

    @property
    def table(self) -> dict[type, Callable[[Any], Call]]:
        """The translation of each type of command."""
        return {UploadRows: self.upload_rows, DownloadRows: self.download_rows}

    def upload_rows(self, command: UploadRows) -> Call:
        box, target = _box(command.target, command)
        return self._move(target, _staged(command, box), box, _TO_DEVICE)

    def download_rows(self, command: DownloadRows) -> Call:
        box, source = _box(command.source, command)
        return self._move(_staged(command, box), source, box, _TO_HOST)

    def _move(self, target: Rows, source: Rows, box: Box, kind: int) -> Call:
        """Return the copy of a box of bytes, in as few calls as its ends allow."""
        rows, slices, run = box.rows, box.slices, box.row_bytes
        if target.gapless(rows) and source.gapless(rows):
            rows, slices = rows * slices, 1
        if slices == 1:
            if run == target.pitch == source.pitch:  # one run of bytes: the copy engine's fastest form
                return self._copy, (target.address, source.address, run * rows, kind)
            return self._copy_rows, (*target[:2], *source[:2], run, rows, kind)
        images = [(*target.slice(n)[:2], *source.slice(n)[:2], run, rows, kind) for n in range(slices)]
        return partial(_each, self._copy_rows), (images,)


class Rows(NamedTuple):
    """Where the rows of several slices lie."""

    address: int
    pitch: int
    slice_pitch: int

    def gapless(self, rows: int) -> bool:
        return self.slice_pitch == rows * self.pitch

    def slice(self, number: int) -> Rows:
        return self._replace(address=self.address + number * self.slice_pitch)


def _box(texture: TextureMemory, command: UploadRows | DownloadRows) -> tuple[Box, Rows]:
    box = box_of(texture, command.origin, command.size, command.slice, command.slices)
    return box, Rows(texture.native.data.ptr + box.offset, box.row_pitch, box.slice_pitch)


def _staged(command: UploadRows | DownloadRows, box: Box) -> Rows:
    block: Any = command.block
    return Rows(block.address + command.block_offset, command.row_pitch, command.row_pitch * box.rows)


def _each(function: Callable[..., object], calls: Sequence[tuple[Any, ...]], stream: int) -> None:
    for arguments in calls:
        function(*arguments, stream)
