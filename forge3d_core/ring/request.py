"""What an upload is asked for: an array, a target and a place there, checked before anything is staged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from forge3d_core.arguments import integer, sequence, shown
from forge3d_core.dtypes import array_of
from forge3d_core.errors import ForeignObject, UsageError, WrongType
from forge3d_core.memory.resources import DeviceBuffer, DeviceMemory
from forge3d_core.memory.textures import DeviceTexture, Triple
from forge3d_core.protocols import Origin

Target = DeviceBuffer | DeviceTexture
Check = Callable[[Target], None]
"""Raises unless the target is one of the ring's."""


class UploadRequest(NamedTuple):
    """One upload, checked: all of ``array`` fits at ``offset`` of a buffer, or ``origin`` of a texture."""

    array: NDArray[Any]
    target: Target
    offset: int
    origin: Triple = (0, 0, 0)


def upload_request(data: Any, target: object, offset: Any, origin: Origin, check: Check) -> UploadRequest:
    """Return what ``upload`` is asked for, or raise why it cannot be."""
    if not isinstance(target, (DeviceBuffer, DeviceTexture)):
        swapped = "; data comes first: upload(data, target)" if isinstance(data, DeviceMemory) else ""
        raise ForeignObject(f"{shown(target)} is not memory of this device{swapped}")
    array = array_of(data)
    check(target)
    if type(offset) is not int:
        offset = integer("offset", offset)
    if isinstance(target, DeviceBuffer):
        if offset < 0 or offset + array.nbytes > target.nbytes:
            target.region(offset, array.nbytes)  # which raises
        return UploadRequest(array, target, offset)
    if offset:
        raise UsageError("a texture takes origin=(x, y) in texels, not a byte offset")
    place, _ = target.goal(array, origin)
    return UploadRequest(array, target, 0, place)


def upload_requests(uploads: Iterable[Any], check: Check) -> list[UploadRequest]:
    """Return what ``upload_many`` is asked for; raises if one of them cannot be, and none is staged."""
    return [_of_tuple(one, check) for one in sequence("what upload_many takes", uploads)]


def _of_tuple(one: Any, check: Check) -> UploadRequest:
    if not isinstance(one, tuple) or not 2 <= len(one) <= 3:
        raise WrongType(
            f"an upload of upload_many is (data, target) or (data, target, offset), not {shown(one)}"
        )
    return upload_request(one[0], one[1], one[2] if len(one) == 3 else 0, (0, 0), check)
