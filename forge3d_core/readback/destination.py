"""The caller's array as it lies, with gaps perhaps: the bytes of a read go there straight from the block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.readback.region import Region
from forge3d_core.transfer.moving import MOVER
from forge3d_core.transfer.source import parts_of, raw_items

Pair = tuple[NDArray[Any], NDArray[Any]]
"""A part of the caller's array, and the part of the block that belongs there; of one shape and dtype."""


@attrs.frozen(eq=False)
class Destination:
    """Says which part of an array which bytes of a read belong to. No copy of either is made."""

    region: Region
    array: NDArray[Any]  # raw items of any shape for a buffer; texels of the region's shape

    @classmethod
    def of(cls, region: Region, array: NDArray[Any], bounds: Iterable[int] = ()) -> Destination:
        """Return the one that is filled from bound to bound: bytes of a buffer, rows of a texture."""
        array = np.asarray(array)  # of a subclass, whose items may have other shapes
        if region.row_pitch is not None:
            return cls(region, array.reshape(region.shape) if array.flags.c_contiguous else array)
        even = all(bound % array.itemsize == 0 for bound in bounds)
        return cls(region, raw_items(array, array.itemsize if even else 0, 1))

    def pairs(self, memory: NDArray[np.uint8], place: int, start: int, stop: int) -> Iterator[Pair]:
        """Yield where the bytes, or rows, ``start`` to ``stop`` go, which are in ``memory`` at ``place``."""
        array = self.array
        if self.region.row_pitch is not None:
            target = self._rows(start, stop)
            yield target, np.ndarray(target.shape, target.dtype, memory.data, place, self._strides(target))
            return
        item = array.itemsize
        source = memory[place : place + stop - start].view(array.dtype)
        for target in parts_of(array, start // item, stop // item):
            yield target, source[: target.size].reshape(target.shape)
            source = source[target.size :]

    def fill(self, memory: NDArray[np.uint8], place: int, start: int, stop: int) -> None:
        """Copy them."""
        for target, source in self.pairs(memory, place, start, stop):
            MOVER.copy(target, source)

    def _rows(self, start: int, stop: int) -> NDArray[Any]:
        region = self.region
        if region.row_axes == 1:
            return self.array[start:stop]
        if region.size[2] == 1:
            return self.array[0, start:stop]
        return self.array[start // region.rows : stop // region.rows]

    def _strides(self, target: NDArray[Any]) -> list[int]:
        """Return the strides of the rows of ``target`` in the block."""
        region, shape = self.region, target.shape
        assert region.row_pitch is not None
        outer = region.row_axes - (len(region.shape) - target.ndim)  # axes of whole rows that are left
        rows = [region.row_pitch * math.prod(shape[axis + 1 : outer]) for axis in range(outer)]
        return rows + [target.itemsize * math.prod(shape[axis + 1 :]) for axis in range(outer, target.ndim)]
