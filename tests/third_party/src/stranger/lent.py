"""Host memory lent as numpy arrays, and emptied afterwards."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from forge3d_core.errors import UsageError, ViewHeld
from stranger.given import plain, several


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

    def take_back(self) -> None:
        """Empty the arrays, unless others were derived from them."""
        derived = sys.getrefcount(self.root) - 2 - len(self._arrays)
        if derived > 0:
            raise ViewHeld(f"{derived} array(s) derived from this memory are alive; drop them (del) first")
        self.empty()

    def empty(self) -> None:
        for array in self._arrays:
            array.__setstate__((1, (0,), array.dtype, False, b""))
            array.flags.writeable = False
        self._arrays.clear()
        self.root = None
