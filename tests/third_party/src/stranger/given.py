"""What callers give, made sure of: whole numbers, several of them, and data with bytes."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from forge3d_core.errors import UsageError
from forge3d_core.protocols import TextureFormat


def whole(value: Any, what: str) -> int:
    """Return what has an integer value of its own, as an int."""
    if isinstance(value, bool | np.bool_):
        raise UsageError(f"{what} is a whole number, not {value!r}")
    try:
        return index(value)
    except TypeError:
        raise UsageError(f"{what} is a whole number, not {value!r}") from None


def several(value: Any, what: str) -> tuple[int, ...]:
    """Return one or more whole numbers as a tuple."""
    try:
        items = tuple(value)
    except TypeError:
        items = (value,)
    return tuple(whole(item, what) for item in items)


def two(value: Any, what: str) -> tuple[int, int]:
    numbers = several(value, what)
    if len(numbers) != 2:
        raise UsageError(f"{what} is two whole numbers, not {value!r}")
    return numbers[0], numbers[1]


def plain(dtype: Any) -> np.dtype[Any]:
    """Return a dtype made of bytes."""
    try:
        made: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise UsageError(f"{dtype!r} is not a dtype: {error}") from None
    if made.hasobject or not made.itemsize:
        raise UsageError(f"dtype {made} has no byte layout")
    return made


def data_of(data: Any) -> np.ndarray[Any, Any]:
    """Return an array of plain bytes."""
    if isinstance(data, bytes | bytearray):
        return np.frombuffer(data, np.uint8)
    array = np.asarray(data)
    if isinstance(data, np.ma.MaskedArray) or plain(array.dtype).kind == "U":
        raise UsageError(f"{type(data).__name__} hides its bytes, or has none")
    return array


def texel_of(format: TextureFormat) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return the dtype of a channel, and the shape of a texel."""
    if format.dtype is None:
        return np.dtype(np.uint8), (format.block_bytes,)
    return np.dtype(format.dtype), () if format.channels == 1 else (format.channels,)
