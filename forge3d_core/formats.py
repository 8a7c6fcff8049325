"""Texture formats and the bytes they take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_core.arguments import shown
from forge3d_core.errors import UsageError
from forge3d_core.protocols import TextureFormat

_SUFFIXES = {"unorm": "u", "snorm": "i", "uint": "u", "sint": "i", "float": "f"}


def _plain() -> dict[str, TextureFormat]:
    formats = {}
    for channels, letters in ((1, "r"), (2, "rg"), (4, "rgba")):
        for bits, kinds in ((8, "unorm snorm uint sint"), (16, "uint sint float"), (32, "uint sint float")):
            for kind in kinds.split():
                name = f"{letters}{bits}{kind}"
                dtype = f"{_SUFFIXES[kind]}{bits // 8}"
                formats[name] = TextureFormat(name, channels * bits // 8, dtype=dtype, channels=channels)
    return formats


FORMATS: dict[str, TextureFormat] = _plain()
"""The uncompressed colour formats of WebGPU by name. Source: WebGPU, section 26.1."""


def texture_format(name: TextureFormat | str) -> TextureFormat:
    """Return the format of that name (``"R32Float"`` and ``"r32float"`` alike)."""
    if isinstance(name, TextureFormat):
        known = FORMATS.get(name.name, name)
        given = (name.block_bytes, name.block, name.dtype or known.dtype)
        if given != (known.block_bytes, known.block, known.dtype):
            raise UsageError(
                f"{name} is not what WebGPU calls {name.name}, which is {known}; the name alone will do"
            )
        return known
    found = FORMATS.get(name.lower()) if isinstance(name, str) else None
    if found is None:
        raise UsageError(f"texture format {shown(name)} is not known; there are {', '.join(FORMATS)}")
    return found


def texel_dtype(format: TextureFormat) -> tuple[np.dtype[Any], int]:
    """Return what one channel of a texel is, and how many there are; without a dtype, its bytes."""
    return (
        (np.dtype("u1"), format.block_bytes)
        if format.dtype is None
        else (np.dtype(format.dtype), format.channels)
    )


def check_texels(array: NDArray[Any], format: TextureFormat) -> None:
    """Raise :class:`UsageError` unless ``array`` is rows of texels, in kind, size and byte order."""
    dtype, channels = texel_dtype(format)
    shapes = ((channels,), ()) if channels == 1 else ((channels,),)
    if array.dtype == dtype and array.ndim >= 2 and array.shape[2:] in shapes:
        return
    wanted = "(rows, columns)" if channels == 1 else f"(rows, columns, {channels})"
    advice = (
        ""
        if array.dtype == dtype
        else (
            f"; convert the values with .astype({dtype.name!r}), or take their bytes for what they are with "
            f".view({dtype.name!r})"
        )
    )
    raise UsageError(
        f"a texture of {format.name} takes {dtype.name} of shape {wanted}; this array is {array.dtype} of "
        f"shape {shown(array.shape)}{advice}"
    )


def texture_bytes(width: int, height: int, format: TextureFormat) -> int:
    """Return the bytes of one 2-d layer, without any padding of rows."""
    across, down = format.block
    return -(-width // across) * -(-height // down) * format.block_bytes
