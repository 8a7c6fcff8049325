"""What an upload is asked for: an array, a target and a place there, checked before anything is staged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from numpy.typing import ArrayLike, NDArray

from forge3d_core.arguments import integer, sequence, shown
from forge3d_core.dtypes import array_of
from forge3d_core.errors import ForeignObject, UsageError, WrongType
from forge3d_core.formats import check_texels
from forge3d_core.memory.resources import DeviceBuffer, DeviceMemory, DeviceTexture

Target = DeviceBuffer | DeviceTexture


class UploadRequest(NamedTuple):
    """One upload; ``offset`` is for buffers, ``origin`` for textures."""

    array: NDArray[Any]
    target: Target
    offset: int
    origin: tuple[int, int] = (0, 0)


def uploadable(data: ArrayLike, target: object) -> tuple[NDArray[Any], Target]:
    """Return the array that ``data`` stands for, and ``target`` as memory of the core's."""
    if not isinstance(target, (DeviceBuffer, DeviceTexture)):
        swapped = "; data comes first: upload(data, target)" if isinstance(data, DeviceMemory) else ""
        raise ForeignObject(f"{shown(target)} is not memory of this device{swapped}")
    return array_of(data), target


def upload_requests(
    uploads: Iterable[tuple[Any, ...]], check_target: Callable[[Target], None]
) -> list[UploadRequest]:
    """Return what ``upload_many`` is asked for; raises if one of them cannot be, and none is staged."""
    return [_request(one, check_target) for one in sequence("what upload_many takes", uploads)]


def _request(one: Any, check_target: Callable[[Target], None]) -> UploadRequest:
    if not isinstance(one, tuple) or not 2 <= len(one) <= 3:
        raise WrongType(
            f"an upload of upload_many is (data, target) or (data, target, offset), not {shown(one)}"
        )
    array, target = uploadable(one[0], one[1])
    check_target(target)
    offset = integer("offset", one[2]) if len(one) == 3 else 0
    if isinstance(target, DeviceBuffer):
        target.region(offset, array.nbytes)
    else:
        if offset:
            raise UsageError("a texture takes no byte offset; upload(..., origin=(x, y)) goes by texels")
        check_texels(array, target.format)
        target.rectangle((0, 0), (array.shape[1], array.shape[0]))
    return UploadRequest(array, target, offset)
