"""How an array is cut: tiles of one shape, each with a halo, as large as a number of bytes allows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, Literal, SupportsIndex

import attrs
import numpy as np

from forge3d_core.arguments import at_least, extents, one_of
from forge3d_core.dtypes import element_dtype
from forge3d_core.errors import TooLarge, UsageError
from forge3d_core.presentation import line
from forge3d_core.units import MIB, format_bytes, parse_bytes

Edge = Literal["edge", "constant", "reflect"]

STAGING_SHARE, RING_SHARE, RING = 2, 8, 3 * MIB
"""Of a budget half is left to the chunks of large uploads and reads, and to the ring an eighth or 3 MiB."""

SQUARE = 8
"""A tile is not made narrower than so many halos as long as another axis can be cut: halos are read twice."""


@attrs.frozen
class Tile:
    """One tile: which one, and which part of the array is its own."""

    index: int
    origin: tuple[int, ...]
    extent: tuple[int, ...]  # of what is its own; less than ``shape`` at the far ends of the array
    shape: tuple[int, ...]  # of every tile of the plan
    padded: tuple[int, ...]  # with the halo: what the device gets

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where its own part lies in the array."""
        return tuple(slice(o, o + n) for o, n in zip(self.origin, self.extent, strict=True))

    @property
    def own(self) -> tuple[slice, ...]:
        """Where its own part lies in a result of ``shape``."""
        return tuple(slice(0, n) for n in self.extent)


def _shape(value: SupportsIndex | Iterable[SupportsIndex]) -> tuple[int, ...]:
    shape = extents("shape", value)
    if not shape or 0 in shape:
        raise UsageError(f"an array to be tiled has at least one axis and one item, not shape {shape}")
    return shape


@attrs.frozen
class Tiling:
    """An operation that can go tile by tile: each item of the result depends on its item and a halo.

    ``shape`` and ``dtype`` are those of the array, ``result`` the dtype of what comes of it (default: the
    same). ``halo`` is how many items around its own a tile needs along each axis that is cut (one number, or
    one for each of them), and ``edge`` what stands there beyond the ends of the array, by numpy's names:
    the last item (``edge``), zeros (``constant``) or ``reflect``. ``axes`` is how many leading axes
    may be cut; by default two of an image with channels, else all.
    """

    shape: tuple[int, ...] = attrs.field(converter=_shape)
    dtype: str = attrs.field(default="u1", converter=element_dtype)
    result: str | None = attrs.field(
        default=None, converter=attrs.converters.optional(element_dtype), kw_only=True
    )
    halo: Any = attrs.field(default=0, kw_only=True)
    edge: Edge = attrs.field(default="edge", validator=one_of("edge", "constant", "reflect"), kw_only=True)
    axes: int | None = attrs.field(default=None, kw_only=True)

    @property
    def halos(self) -> tuple[int, ...]:
        """The halo along each axis of the array."""
        cut = self._cut
        given = extents("halo", self.halo)
        if len(given) not in (1, cut):
            raise UsageError(f"halo is one number, or one for each of the {cut} axes that are cut: {given}")
        return (given * cut if len(given) == 1 else given) + (0,) * (len(self.shape) - cut)

    @property
    def _cut(self) -> int:
        axes = min(len(self.shape), 2) if self.axes is None else at_least(1, "axes", self.axes)
        if axes > len(self.shape):
            raise UsageError(f"an array of shape {self.shape} has no {axes} axes to cut")
        return axes

    def fit(self, nbytes: int | str, *, depth: int = 3, most: int | None = None) -> TilePlan:
        """Return the plan with the largest tiles that go through ``nbytes`` of memory in all.

        In all means device memory and host-visible memory, ``depth`` tiles being on their way at once, and
        the staging. Fewer are where they would be too small. ``most`` is the most bytes of one buffer. Raises
        :class:`TooLarge` where not even one item, with its halo, goes through.
        """
        limit = parse_bytes(nbytes)
        limit -= limit // STAGING_SHARE + min(limit // RING_SHARE, RING)
        for count in range(at_least(1, "depth", depth), 0, -1):
            plan = self._largest(limit, count, most)
            if plan is not None and (count == 1 or not plan.narrow):
                return plan
        raise TooLarge(
            f"not even one item of {self.shape} with a halo of {self.halos} goes through "
            f"{format_bytes(parse_bytes(nbytes))}; give it more"
        )

    def tiled(self, tile: SupportsIndex | Iterable[SupportsIndex], *, depth: int = 3) -> TilePlan:
        """Return the plan with tiles of a given shape."""
        shape = extents("tile", tile)
        if len(shape) != len(self.shape) or 0 in shape:
            raise UsageError(f"a tile of an array of shape {self.shape} has as many axes, not shape {shape}")
        if any(t < s for t, s in zip(shape[self._cut :], self.shape[self._cut :], strict=True)):
            raise UsageError(f"only the first {self._cut} axes of {self.shape} are cut, not as in {shape}")
        smaller = tuple(min(t, s) for t, s in zip(shape, self.shape, strict=True))
        return TilePlan(self, smaller, at_least(1, "depth", depth))

    def _largest(self, limit: int, depth: int, most: int | None) -> TilePlan | None:
        tile = list(self.shape)
        floors = [min(n, max(1, SQUARE * h)) for n, h in zip(self.shape, self.halos, strict=True)]
        for least in (floors, [1] * len(tile)):
            for axis in range(self._cut):
                while tile[axis] >= least[axis]:
                    plan = TilePlan(self, tuple(tile), depth)
                    over = plan.nbytes / limit if limit else math.inf
                    if most is not None:
                        over = max(over, plan.frame_nbytes / most, plan.result_nbytes / most)
                    if over <= 1:
                        return plan
                    if tile[axis] == least[axis]:
                        break
                    tile[axis] = max(least[axis], min(tile[axis] - 1, int(tile[axis] / over)))
        return None


@attrs.frozen
class TilePlan:
    """A tiling with the shape of its tiles, and how many of them are on their way at once."""

    tiling: Tiling
    tile: tuple[int, ...]
    depth: int

    def __len__(self) -> int:
        return math.prod(self._counts)

    def __iter__(self) -> Iterator[Tile]:
        """Yield the tiles in the order of memory."""
        padded = self.padded
        for index, place in enumerate(product(*map(range, self._counts))):
            origin = tuple(p * t for p, t in zip(place, self.tile, strict=True))
            ends = zip(self.tile, self.tiling.shape, origin, strict=True)
            yield Tile(index, origin, tuple(min(t, s - o) for t, s, o in ends), self.tile, padded)

    @property
    def padded(self) -> tuple[int, ...]:
        """The shape of a tile with its halo."""
        return tuple(t + 2 * h for t, h in zip(self.tile, self.tiling.halos, strict=True))

    @property
    def result_dtype(self) -> np.dtype[Any]:
        """The dtype of the result."""
        return np.dtype(self.tiling.result or self.tiling.dtype)

    @property
    def frame_nbytes(self) -> int:
        """Bytes of a tile with its halo."""
        return math.prod(self.padded) * np.dtype(self.tiling.dtype).itemsize

    @property
    def result_nbytes(self) -> int:
        """Bytes of the result of a tile."""
        return math.prod(self.tile) * self.result_dtype.itemsize

    @property
    def nbytes(self) -> int:
        """The memory that it takes, without staging: frames and results, and blocks for results."""
        return self.depth * (self.frame_nbytes + 2 * self.result_nbytes)

    @property
    def narrow(self) -> bool:
        """Whether tiles are so small that most of what is read is halo."""
        return self.frame_nbytes > 4 * math.prod(self.tile) * np.dtype(self.tiling.dtype).itemsize

    @property
    def _counts(self) -> tuple[int, ...]:
        return tuple(-(-s // t) for s, t in zip(self.tiling.shape, self.tile, strict=True))

    def __repr__(self) -> str:
        return line(
            f"tile plan of {self.tiling.shape}: {len(self)} tiles of {self.tile}",
            f"{self.depth} at once",
            format_bytes(self.nbytes),
        )
