"""Host-visible memory lent out as numpy arrays, and taken back."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_core.arguments import extents, shown
from forge3d_core.dtypes import byte_dtype
from forge3d_core.errors import StateError, UsageError, ViewHeld
from forge3d_core.hold import Reference

# What `sys.getrefcount` counts for an array that only the loan knows: where it keeps it, and the argument.
_OWN_REFERENCES = 2


class Loan:
    """One run of host memory, lent as arrays that can be emptied again.

    A numpy array cannot be told that its memory has gone, and a mapped range that is unmapped, or a
    staging block that is in flight, must not be written through an array somebody kept. So every
    array is handed out over one private *root*. Taking back empties the arrays that were handed out
    in place (a later use raises), and the root's reference count tells whether others were derived
    from them, for numpy makes the root the base of every view of a view.

    Thread-safety: one thread at a time.
    """

    __slots__ = ("_lent", "_root")

    def __init__(self, memory: NDArray[np.uint8], *, writable: bool) -> None:
        view = memoryview(memory.data)  # not an ndarray, so that numpy stops here when it collapses bases
        self._root: NDArray[np.uint8] | None = np.frombuffer(
            view if writable else view.toreadonly(), np.uint8
        )
        self._lent: list[NDArray[Any]] = []

    @property
    def over(self) -> bool:
        """Whether the memory was taken back."""
        return self._root is None

    def reached(self, over: Callable[[weakref.ref[Any]], object]) -> weakref.ref[Any]:
        """Return a reference that is alive as long as the memory can be reached through any array.

        Then ``over`` is told, by the collector perhaps; a method of a C type cannot be cut short.
        """
        return Reference(self._root, over)

    def array(
        self, dtype: Any = np.uint8, shape: int | tuple[int, ...] | None = None, row_pitch: int | None = None
    ) -> NDArray[Any]:
        """Lend the memory as ``dtype`` and ``shape``, default 1-d and as many items as fit.

        With ``row_pitch`` the first axis steps that many bytes, and the padding does not show.
        Raises :class:`UsageError` when the items do not fit or the dtype holds Python objects.
        """
        item = byte_dtype(dtype)
        room = 0 if self._root is None else self._root.nbytes
        wanted = (room // item.itemsize,) if shape is None else extents("shape", shape)
        row = item.itemsize * math.prod(wanted[1:])
        pitch = row if row_pitch is None else row_pitch
        rows = wanted[0] if wanted else 1
        if math.prod(wanted) and (rows - 1) * pitch + row > room:
            raise UsageError(f"{item} of shape {shown(shape)} does not fit in the {room} bytes lent")
        inner = [item.itemsize * math.prod(wanted[axis + 1 :]) for axis in range(1, len(wanted))]
        strides = (pitch, *inner)[: len(wanted)]
        root = self._root  # only here: an error that is kept would keep it, and look like an array derived
        if root is None:
            raise StateError("this host-visible memory was taken back")  # by another thread, just now
        lent: NDArray[Any] = np.ndarray(wanted, item, buffer=root, strides=strides)
        lent.flags.writeable = root.flags.writeable
        self._lent.append(lent)
        return lent

    def take_back(self) -> None:
        """Empty what was handed out, or raise :class:`ViewHeld` and change nothing."""
        if self._root is None:
            return
        derived = sys.getrefcount(self._root) - _OWN_REFERENCES - len(self._lent)
        if derived > 0:
            raise ViewHeld(
                f"{derived} array(s) derived from this memory are still alive and would outlive it; "
                "drop them first (del), or ask .array(dtype, shape) for the shape instead of reshaping"
            )
        self._empty()

    def surrender(self) -> None:
        """Empty what was handed out; arrays derived from it stay as they are."""
        self._empty()

    def revoke(self) -> None:
        """Surrender while other threads may be inside numpy with an array that was handed out.

        ``np.copyto(lent, data)`` lets go of the GIL and writes to where the array pointed when it began;
        all that shows of it is a reference to the array. So the memory itself stays until every array
        that somebody else refers to is gone, emptied though it is. ``reached`` does not wait for those.
        """
        memory = self._root.base if self._root is not None else None
        for place in range(len(self._lent)):
            if sys.getrefcount(self._lent[place]) > _OWN_REFERENCES:
                weakref.finalize(self._lent[place], lambda _memory: None, memory).atexit = False
        self._empty()

    def _empty(self) -> None:
        while self._lent:
            lent = self._lent[-1]
            del self._lent[-1]  # no call until it is emptied: an interrupt leaves none that counts as lent
            # numpy's own protocol for giving an array new contents; it drops the base.
            lent.__setstate__((1, (0,), lent.dtype, False, b""))  # type: ignore[arg-type]
            lent.flags.writeable = False
        self._root = None
