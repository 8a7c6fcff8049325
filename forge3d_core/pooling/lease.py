"""A lease: a buffer of a pool, until it is given back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Self

from forge3d_core.errors import Closed
from forge3d_core.presentation import line, no_copy
from forge3d_core.protocols import Buffer, FencePoint
from forge3d_core.units import format_bytes

GiveBack = Callable[[Buffer, int, Iterable[FencePoint]], None]


class PooledBuffer:
    """A buffer of at least ``nbytes`` bytes, until it is released; see :class:`BufferPool`.

    A lease that is dropped gives its memory back to the device, and not to the pool.

    Thread-safety: any thread.
    """

    def __init__(self, buffer: Buffer, nbytes: int, give_back: GiveBack) -> None:
        self.nbytes = nbytes
        """The bytes that were asked for."""
        self.capacity = buffer.nbytes
        """The bytes of the buffer: those of its size class."""
        self._buffer: Buffer | None = buffer
        self._give_back = give_back

    @property
    def buffer(self) -> Buffer:
        """The buffer, of ``capacity`` bytes. Raises :class:`Closed` once it is released."""
        buffer = self._buffer
        if buffer is None:
            raise Closed(f"{self!r} was given back to its pool; acquire another")
        return buffer

    @property
    def released(self) -> bool:
        """Whether it was given back."""
        return self._buffer is None

    def release(self, after: Iterable[FencePoint] = ()) -> None:
        """Give the buffer back; idempotent, never blocks.

        The pool hands it out again once the device has finished with it. On a device whose buffers do not
        know that (see :class:`forge3d_core.protocols.RecyclableBuffer`), that is when all that was submitted
        by now is complete, or the points of ``after``, if there are any.
        """
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._give_back(buffer, self.capacity, after)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    __reduce_ex__ = no_copy

    def __repr__(self) -> str:
        return line(
            f"pooled buffer of {format_bytes(self.nbytes)}",
            f"{format_bytes(self.capacity)} of memory",
            "released" if self._buffer is None else "",
        )
