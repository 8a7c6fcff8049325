"""Host memory lent as numpy arrays, and left to whoever keeps one."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from forge3d_core.errors import UsageError, ViewHeld
from stranger.given import plain, several


def empty(array: Any) -> None:
    """Set the first extent to 0, as C code may: where it points, and what it keeps, stay for its aliases."""
    array.flags.writeable = False
    if array.ndim:
        extents = ctypes.c_void_p.from_address(id(array) + object.__basicsize__ + 16).value
        assert extents is not None
        ctypes.c_ssize_t.from_address(extents).value = 0


class Lent:
    """Every array that is handed out, or derived from one, has the one *root* as its base.

    So the references to the root, less ours and those of the arrays handed out, are the derived ones.
    ``freed`` is called when the root is gone, that is, when nobody can reach the memory any more.
    """

    def __init__(self, memory: np.ndarray[Any, Any], writable: bool, freed: Callable[[], None]) -> None:
        data = memoryview(memory.data)
        self.root: Any = np.frombuffer(data if writable else data.toreadonly(), np.uint8)
        self._arrays: list[Any] = []
        self._finalizer = weakref.finalize(self.root, freed)
        self._finalizer.atexit = False

    def array(self, dtype: Any, shape: int | tuple[int, ...] | None) -> Any:
        item = plain(dtype)
        if shape is None:
            shape = self.root.nbytes // item.itemsize
        shape = several(shape, "shape")
        if (
            any(n < 0 for n in shape)
            or item.itemsize * int(np.prod(shape, dtype=np.int64)) > self.root.nbytes
        ):
            raise UsageError(f"{item} of shape {shape} does not fit in {self.root.nbytes} bytes")
        array: Any = np.ndarray(shape, item, self.root)
        array.flags.writeable = self.root.flags.writeable
        self._arrays.append(array)
        return array

    def take_back(self) -> bool:
        """Empty the arrays, unless others were derived from them, and say whether nobody has them.

        Where somebody has, an alias may reach the memory, which is numpy's and lives as long: it must not be
        handed out again.
        """
        derived = sys.getrefcount(self.root) - 2 - len(self._arrays)
        if derived > 0:
            raise ViewHeld(f"{derived} array(s) derived from this memory are alive; drop them (del) first")
        return self.end()

    def end(self) -> bool:
        """Do the same whoever has derived what."""
        for array in self._arrays:
            empty(array)
        self._arrays.clear()
        alone = sys.getrefcount(self.root) == 2 and sys.getrefcount(self.root.base) == 2
        self.root = None
        self._finalizer()
        return alone
