"""Arrays in host-visible memory of a device's: what is in one goes to the device without another copy."""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_core.arguments import extents
from forge3d_core.dtypes import byte_dtype
from forge3d_core.foreign import view_of
from forge3d_core.lifetime.hold import Reference
from forge3d_core.memory.allocator import Allocation, Allocator
from forge3d_core.protocols import Limits
from forge3d_core.units import align_up


class _Shown(Reference):
    """Refers to the inner array over a block, to which all arrays of it lead; knows the block."""

    __slots__ = ("allocation",)
    allocation: weakref.ref[Allocation]


class HostArrays:
    """Makes arrays in host-visible memory, and finds the memory of an array that is one, or a part of one.

    Such an array is made over a memoryview of an *inner* array, as a loan's are: while that is alive, the
    memory is held, and afterwards it goes back to the budget as soon as the device is done with it.

    Thread-safety: any thread.
    """

    def __init__(self, allocator: Allocator, limits: Limits) -> None:
        self._allocator = allocator
        self._limits = limits
        self._known: dict[int, _Shown] = {}  # by the id of the inner array

    def make(self, shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return a zeroed array; see :meth:`HostArrayDevice.host_array`."""
        item, wanted = byte_dtype(dtype), extents("shape", shape)
        nbytes = item.itemsize * math.prod(wanted)
        if not nbytes:
            return np.zeros(wanted, item)
        owned = self._allocator.block(align_up(nbytes, max(4, self._limits.copy_alignment)), "upload")
        allocation, guard = owned.allocation, self._allocator.gate
        with guard.here():
            guard.check()
            inner = view_of(allocation.native)[:nbytes]
        allocation.holds.add(Reference(inner, allocation.holds.discard))
        shown = _Shown(inner)
        shown.allocation = weakref.ref(allocation)
        self._known = {key: other for key, other in self._known.items() if other() is not None}
        self._known[id(inner)] = shown
        self._allocator.drop(owned)  # nothing but the arrays holds it from now on
        return np.frombuffer(inner.data, item).reshape(wanted)

    def find(self, array: NDArray[Any]) -> tuple[Allocation, int] | None:
        """Return the memory that ``array`` lies in, in C order, and where.

        None for any other array, and where the device cannot use memory while the host has it.
        """
        if not (self._known and self._limits.mapped_copies and array.flags.c_contiguous and array.nbytes):
            return None
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        if not isinstance(base, memoryview):
            return None
        shown = self._known.get(id(base.obj))
        inner = shown() if shown is not None else None
        if shown is None or inner is None or inner is not base.obj:
            return None
        allocation = shown.allocation()
        return None if allocation is None else (allocation, _address(array) - _address(inner))


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])
