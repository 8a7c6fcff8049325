"""The parameters of dispatches: uniform buffers whose bytes follow the order of the queue.

A submission's parameters lie at the same places of the same buffers as those of any other. That is safe
because they are written with the submission, between the one before and its own commands, and it is what lets
bind groups serve again. Bytes that are there already are not written.
"""

from __future__ import annotations

from typing import Any

import attrs
import wgpu
from wgpu.backends.wgpu_native import ffi, lib

from forge3d_wgpu.errors import NativeErrors
from forge3d_wgpu.native import Dialect

ARENA_BYTES = 16 * 1024
_OFFSET_ALIGNMENT = 256  # the most that any adapter asks of a uniform's offset


@attrs.define(eq=False)
class Arena:
    """A uniform buffer, and what it will hold when the queue has come to its end; empty while not known."""

    buffer: Any
    content: bytes = b""

    def write_step(self, queue: Any, data: bytes) -> tuple[Any, ...]:
        """Return the call that writes ``data`` behind all that has been submitted; :meth:`note` it then."""
        self.content = b""
        return lib.wgpuQueueWriteBuffer, queue, self.buffer._internal, 0, ffi.from_buffer(data), len(data)

    def note(self, data: bytes) -> None:
        self.content = data


@attrs.define(eq=False)
class Arenas:
    """The uniform buffers of a device, or of one list that is submitted many times.

    They are small (16 KiB, 64 sets of parameters, each) and not in the budget.
    Thread-safety: one thread at a time, but for ``content``, which the lock on submissions guards.
    """

    device: Any
    made: list[Arena] = attrs.field(factory=list, init=False)

    def buffer(self, number: int) -> Any:
        usage = wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST
        while number >= len(self.made):
            with NativeErrors("allocating a buffer for parameters"):
                buffer = self.device.create_buffer(size=ARENA_BYTES, usage=usage)
            self.made.append(Arena(buffer))
        return self.made[number].buffer

    def release(self) -> None:
        """Give all of them back to the device, also those in flight."""
        while self.made:
            self.made.pop().buffer._release()


@attrs.define(eq=False)
class Params:
    """The parameters of one list of commands, each set in a place of its own."""

    arenas: Arenas
    calls: Dialect
    _data: list[bytearray] = attrs.field(factory=list, init=False)
    _places: dict[bytes, tuple[int, Any]] = attrs.field(factory=dict, init=False)

    def place(self, packed: bytes) -> tuple[int, Any]:
        """Return where a shader will find ``packed``: which buffer, and the dynamic offset in it.

        Equal sets share one place. Bind groups do not depend on the offset, so they serve for all sets.
        """
        place = self._places.get(packed)
        if place is None:
            if not self._data or len(self._data[-1]) + len(packed) > ARENA_BYTES:
                self._data.append(bytearray())
            data = self._data[-1]
            place = self._places[packed] = len(self._data) - 1, self.calls.offset(len(data))
            data += packed.ljust(-(-len(packed) // _OFFSET_ALIGNMENT) * _OFFSET_ALIGNMENT, b"\0")
        return place

    def writes(self) -> list[tuple[Arena, bytes]]:
        """Return what has to be written, and where; the lock on submissions is held."""
        writes = []
        for arena, data in zip(self.arenas.made, self._data, strict=False):
            if not arena.content.startswith(data):
                writes.append((arena, bytes(data)))
        return writes
