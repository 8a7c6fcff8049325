"""Dtypes at the edge: which bytes an array brings, and which of them a texel or a kernel takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.ma import MaskedArray
from numpy.typing import ArrayLike, NDArray

from forge3d_core.arguments import shown
from forge3d_core.errors import UsageError, WrongType


def byte_dtype(dtype: Any) -> np.dtype[Any]:
    """Return ``dtype`` as a numpy dtype whose items are plain bytes, or raise :class:`UsageError`."""
    try:
        item: np.dtype[Any] = np.dtype(dtype)
    except Exception as error:  # numpy raises many kinds for what is none
        raise UsageError(f"{shown(dtype)} is not a numpy dtype: {error}") from None
    if item.hasobject or item.itemsize == 0 or item.subdtype is not None or item.kind == "T":
        raise UsageError(f"dtype {item} has no byte layout; use a fixed-size numeric dtype such as float32")
    return item


def element_dtype(dtype: Any) -> str:
    """Return the name of what a kernel or a channel is made of: plain bytes in this machine's order."""
    item = byte_dtype(dtype)
    if not item.isnative:
        raise UsageError(
            f"dtype {item} is in another byte order than this machine's; use {item.newbyteorder('=')}"
        )
    return dtype if isinstance(dtype, str) else item.str[1:] if item.fields is None else _refuse(item)


def _refuse(item: np.dtype[Any]) -> str:
    raise UsageError(f"write the dtype of records as text, such as 'u4,f4', not {item}")


def array_of(data: ArrayLike) -> NDArray[Any]:
    """Return the array whose bytes, in C order and in its own byte order, ``data`` stands for.

    Bytes-like objects are their bytes. Raises :class:`UsageError` for what has no byte layout, and for a
    masked array, whose mask has no place among them.
    """
    if isinstance(data, (bytes, bytearray)):
        return np.frombuffer(data, np.uint8)
    if isinstance(data, MaskedArray):
        raise WrongType(
            "a masked array has values that are none; say which bytes to send: data.filled(value)"
        )
    try:
        array = np.asarray(data)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{shown(data)} is not array data: {error}") from error
    if array.dtype.kind == "U":
        raise WrongType(f"text has no byte layout until it is encoded: send bytes, not {shown(data)}")
    if array.dtype.hasobject:
        raise WrongType(f"{shown(data)} is not array data of plain bytes, but of Python objects")
    byte_dtype(array.dtype)
    return array
