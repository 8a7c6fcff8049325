"""Copies and fills: each command as a call of the runtime. Nothing here touches the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from forge3d_core.driver import Copy, Download, Fill, Upload
from forge3d_cuda.textures import Call, TextureTransfers

__all__ = ["Call", "Transfers"]

_TO_DEVICE, _TO_HOST, _ON_THE_DEVICE = 1, 2, 3  # cudaMemcpyKind


@attrs.frozen(eq=False)
class Transfers:
    """Translates the commands that move bytes; addresses are known by then, so this is arithmetic."""

    _copy: Callable[..., object]
    _textures: TextureTransfers
    _fill: Callable[..., object]

    @classmethod
    def on(cls, runtime: Any) -> Transfers:
        return cls(runtime.memcpyAsync, TextureTransfers.on(runtime), runtime.memsetAsync)

    @property
    def table(self) -> dict[type, Callable[[Any], Call]]:
        """The translation of each type of command."""
        return {
            Upload: self.upload,
            Download: self.download,
            **self._textures.table,
            Copy: self.copy,
            Fill: self.fill,
        }

    def upload(self, command: Upload) -> Call:
        target = command.target.native.data.ptr + command.offset
        return self._copy, (target, _host(command), command.nbytes, _TO_DEVICE)

    def download(self, command: Download) -> Call:
        source = command.source.native.data.ptr + command.offset
        return self._copy, (_host(command), source, command.nbytes, _TO_HOST)

    def copy(self, command: Copy) -> Call:
        source = command.source.native.data.ptr + command.source_offset
        target = command.target.native.data.ptr + command.target_offset
        return self._copy, (target, source, command.nbytes, _ON_THE_DEVICE)

    def fill(self, command: Fill) -> Call:
        target = command.target.native.data.ptr + command.offset
        return self._fill, (target, command.value, command.nbytes)


def _host(command: Any) -> int:
    return int(command.block.address + command.block_offset)
