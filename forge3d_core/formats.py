"""Texture formats and the bytes they take."""

from __future__ import annotations

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
        return name
    found = FORMATS.get(str(name).lower())
    if found is None:
        raise UsageError(f"texture format {name!r} is not known; there are {', '.join(FORMATS)}")
    return found


def texture_bytes(width: int, height: int, format: TextureFormat) -> int:
    """Return the bytes of one 2-d layer, without any padding of rows."""
    across, down = format.block
    return -(-width // across) * -(-height // down) * format.block_bytes
