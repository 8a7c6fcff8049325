"""Commands, carried out on numpy memory by the lane's own thread."""

from __future__ import annotations

import os
import sysconfig
import threading
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any, assert_never

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.driver import (
    Command,
    Copy,
    Direction,
    Dispatch,
    Download,
    DownloadRows,
    Fill,
    Memory,
    TextureMemory,
    Upload,
    UploadRows,
)
from forge3d_core.errors import KernelError
from forge3d_core.linear_texture import box_of
from forge3d_core.protocols import Binding
from forge3d_core.units import align_up

Bytes = NDArray[np.uint8]

LIBRARIES = (
    *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")),
    os.path.dirname(np.__file__),
    "numpy/",
    "<frozen",
)
"""How the names of files begin that are no part of the program."""


@attrs.frozen(eq=False)
class Block:
    """Host-visible memory; on this machine, memory like any other."""

    memory: Bytes
    direction: Direction

    @property
    def nbytes(self) -> int:
        return self.memory.nbytes

    def view(self) -> Bytes:
        view = self.memory.view()
        view.flags.writeable = self.direction == "upload"
        return view


@attrs.frozen(eq=False)
class Link:
    """The simulated way between host and device; ``halt`` ends every wait on it."""

    bytes_per_second: int | None
    latency: float
    halt: threading.Event

    def carry(self, nbytes: int) -> None:
        seconds = self.latency + (nbytes / self.bytes_per_second if self.bytes_per_second else 0.0)
        if seconds:
            self.halt.wait(min(seconds, threading.TIMEOUT_MAX))


@attrs.frozen(eq=False)
class Executor:
    """Runs commands one after the other. A kernel that raises becomes a :class:`KernelError`."""

    link: Link
    alignment: int

    def run(self, commands: Sequence[Command]) -> None:
        for command in commands:
            self._run(command)

    def _run(self, command: Command) -> None:
        match command:
            case Upload(block, start, target, offset, nbytes):
                self.link.carry(nbytes)
                target.native[offset : offset + nbytes] = _staged(block, start, nbytes)
            case Download(source, offset, block, start, nbytes):
                self.link.carry(nbytes)
                # Copied as an API with this alignment would: neighbours in the block are overwritten.
                lead = offset % self.alignment
                end = min(align_up(offset + nbytes, self.alignment), source.native.nbytes)
                wider = source.native[offset - lead : end]
                _staged(block, start - lead, wider.nbytes)[:] = wider
            case UploadRows(block, start, pitch, target, origin, size, slice, slices):
                texels = _texels(target, origin, size, slice, slices)
                self.link.carry(texels.size)
                texels[:] = _rows(block, start, pitch, texels.shape)
            case DownloadRows(source, origin, size, block, start, pitch, slice, slices):
                texels = _texels(source, origin, size, slice, slices)
                self.link.carry(texels.size)
                _rows(block, start, pitch, texels.shape)[:] = texels
            case Copy(source, source_offset, target, target_offset, nbytes):
                target.native[target_offset : target_offset + nbytes] = source.native[
                    source_offset : source_offset + nbytes
                ]
            case Fill(target, offset, nbytes, value):
                target.native[offset : offset + nbytes] = value
            case Dispatch():
                _dispatch(command)
            case _:
                assert_never(command)


def _staged(block: Any, start: int, nbytes: int) -> Bytes:
    memory: Bytes = block.memory
    return memory[start : start + nbytes]


def _rows(block: Any, start: int, pitch: int, shape: tuple[int, ...]) -> Bytes:
    """Return slices of rows of bytes, the rows ``pitch`` bytes apart."""
    return np.ndarray(
        shape, np.uint8, buffer=block.memory, offset=start, strides=(shape[1] * pitch, pitch, 1)
    )


def _texels(
    texture: TextureMemory, origin: tuple[int, int], size: tuple[int, int], slice: int, slices: int
) -> Bytes:
    box = box_of(texture, origin, size, slice, slices)
    shape, strides = (box.slices, box.rows, box.row_bytes), (box.slice_pitch, box.row_pitch, 1)
    return np.ndarray(shape, np.uint8, buffer=texture.native, offset=box.offset, strides=strides)


def _argument(memory: Memory, binding: Binding) -> NDArray[Any]:
    dtype = np.dtype(binding.dtype)
    view: NDArray[Any] = memory.native[: memory.nbytes // dtype.itemsize * dtype.itemsize].view(dtype)
    view.flags.writeable = binding.access != "read"
    return view


def _dispatch(command: Dispatch) -> None:
    source = command.kernel.source
    arrays = [_argument(m, b) for m, b in zip(command.buffers, source.bindings, strict=True)]
    # Rounded to what a device would be given, and still Python numbers, which promote weakly.
    scalars = [
        float(np.float32(value)) if param.dtype == "f4" else value
        for value, param in zip(command.params, source.params, strict=True)
    ]
    try:
        command.kernel.native(command.threads, *arrays, *scalars)
    except BaseException as error:  # a kernel that calls sys.exit() must not end the lane silently
        frames = error.__traceback__.tb_next if error.__traceback__ else None  # without this one
        raise KernelError(
            f"kernel {source.name!r} over {command.threads} threads raised "
            f"{type(error).__name__}: {error} {_place(frames)}; nothing more runs on "
            "this lane: mend the kernel, and open the device again"
        ) from error.with_traceback(frames)


def _place(frames: TracebackType | None) -> str:
    """Say where a kernel failed: at the program's own line, not at that of a library which it called."""
    where = traceback.extract_tb(frames)
    if not where:
        return "when it was called"
    own = [frame for frame in where if not frame.filename.startswith(LIBRARIES)]
    last = own[-1] if own else where[0]
    return f"at {last.filename}:{last.lineno} in {last.name}"
