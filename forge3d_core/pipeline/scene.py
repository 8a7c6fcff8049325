"""Objects made of triangles, as kernels take them."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from forge3d_core.arguments import integer
from forge3d_core.errors import UsageError

QUARTERS = 4
LEAST, MOST = -2047, 6143
"""Pixels that a corner may lie at: within these no product of two edges leaves 32 bits."""

MAX_SIDE = 4096

Depths = NDArray[np.float32]
Words = NDArray[np.int32]


def _triangles(value: ArrayLike) -> NDArray[np.float32]:
    array = np.array(value, np.float32)  # a copy: what is on the device is told by the object's identity
    array.flags.writeable = False
    if array.ndim != 3 or array.shape[1:] != (3, 3) or not np.isfinite(array).all():
        raise UsageError(f"triangles are finite numbers of shape (n, 3, 3): x, y, depth; not {array.shape}")
    if array.size and not (array[..., :2].min() >= LEAST and array[..., :2].max() <= MOST):
        raise UsageError(f"the corners of triangles lie between {LEAST} and {MOST} pixels; clip them first")
    return array


def _colors(value: ArrayLike) -> NDArray[np.float32]:
    array = np.array(value, np.float32)
    if array.shape[-1:] not in ((3,), (4,)) or array.ndim > 3:
        raise UsageError(
            f"colours are RGB or RGBA from 0 to 1: one, one each, or (n, 3, 4); not {array.shape}"
        )
    if array.shape[-1] == 3:
        array = np.concatenate([array, np.ones((*array.shape[:-1], 1), np.float32)], axis=-1)
    array.flags.writeable = False
    return array


def _id(value: int) -> int:
    number = integer("an object's id", value)
    if not 0 <= number < 1 << 31:  # ids are 32-bit words on the device, and -1 is none
        raise UsageError(f"an object's id is from 0 to 2147483647, not {number}")
    return number


@attrs.frozen(eq=False)
class SceneObject:
    """Triangles that belong together: (n, 3, 3) of x and y in pixels and depth, 0 near and 1 far.

    ``colors``: one for all, one for each triangle (n, 1, 4), or one for each corner (n, 3, 4).
    """

    id: int = attrs.field(converter=_id)
    triangles: NDArray[np.float32] = attrs.field(converter=_triangles)
    colors: NDArray[np.float32] = attrs.field(default=(1.0, 1.0, 1.0, 1.0), converter=_colors)


@attrs.frozen(eq=False)
class Scene:
    """Objects as the kernels take them. ``owner`` is the object of each triangle."""

    corners: Words  # (n, 6): x and y of each corner, in quarters of a pixel
    depths: Depths  # (n, 3)
    colors: Depths  # (n, 12)
    owner: Words  # (n,)

    @classmethod
    def of(cls, objects: Sequence[SceneObject]) -> Scene:
        """Return the scene of some objects, in their order."""
        empty = [SceneObject(0, np.zeros((0, 3, 3)))]
        parts = list(objects) or empty
        triangles = np.concatenate([part.triangles for part in parts])
        colors = [np.broadcast_to(part.colors, (len(part.triangles), 3, 4)) for part in parts]
        return cls(
            np.rint(triangles[..., :2] * QUARTERS).astype(np.int32).reshape(-1, 6),
            np.ascontiguousarray(triangles[..., 2]),
            np.concatenate(colors).astype(np.float32).reshape(-1, 12),
            np.repeat([part.id for part in parts], [len(part.triangles) for part in parts]).astype(np.int32),
        )

    def __len__(self) -> int:
        return len(self.corners)
