"""How bytes are compressed: zlib of the standard library, or lz4 or zstandard where they are installed."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any

import attrs

from forge3d_core.errors import MissingDependency, UsageError

Squeeze = Callable[[Any], bytes]

ZLIB_LEVEL = 1
"""Textures and meshes gain little from the higher levels, which take three times as long."""


@attrs.frozen
class Codec:
    """A way to compress bytes and to get the same bytes back."""

    name: str
    compress: Squeeze
    decompress: Squeeze


def codec_of(name: str = "zlib") -> Codec:
    """Return ``zlib``, ``lz4`` or ``zstd``. Raises :class:`MissingDependency` for what is not there."""
    if name == "zlib":
        return Codec(name, lambda data: zlib.compress(data, ZLIB_LEVEL), zlib.decompress)
    if name == "lz4":
        library = _library("lz4.frame", "lz4")
        return Codec(name, library.compress, library.decompress)
    if name == "zstd":
        library = _library("zstandard", "zstandard")
        return Codec(name, library.compress, library.decompress)
    raise UsageError(f"a codec is 'zlib', 'lz4' or 'zstd', not {name!r}")


def _library(module: str, distribution: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        fix = f"pip install {distribution}"
        raise MissingDependency(
            f"this codec needs {distribution}; install it ({fix}), or take 'zlib'", fix=fix
        ) from error
