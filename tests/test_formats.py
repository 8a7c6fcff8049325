from __future__ import annotations

import numpy as np
import pytest

from forge3d_core.errors import UsageError
from forge3d_core.formats import FORMATS, texture_bytes, texture_format
from forge3d_core.protocols import TextureFormat


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_texel_is_its_channels(name: str) -> None:
    layout = FORMATS[name]
    assert layout.name == name
    assert layout.dtype is not None
    assert layout.block_bytes == layout.channels * np.dtype(layout.dtype).itemsize


@pytest.mark.parametrize(
    ("name", "block_bytes", "dtype", "channels"),
    [
        ("r8unorm", 1, "u1", 1),
        ("rg16sint", 4, "i2", 2),
        ("rgba8snorm", 4, "i1", 4),
        ("rgba16float", 8, "f2", 4),
        ("r32float", 4, "f4", 1),
        ("rgba32uint", 16, "u4", 4),
    ],
)
def test_formats_as_webgpu_has_them(name: str, block_bytes: int, dtype: str, channels: int) -> None:
    assert FORMATS[name] == TextureFormat(name, block_bytes, (1, 1), dtype, channels)


def test_a_format_by_name_in_any_case_or_as_it_is() -> None:
    assert texture_format("RGBA8Unorm") is FORMATS["rgba8unorm"]
    own = TextureFormat("own", 3)
    assert texture_format(own) is own


def test_an_unknown_format_names_the_known() -> None:
    with pytest.raises(UsageError, match="rgba8unorm"):
        texture_format("rgb8unorm")


def test_bytes_of_plain_and_of_compressed_formats() -> None:
    assert texture_bytes(100, 50, FORMATS["rgba8unorm"]) == 100 * 50 * 4
    compressed = TextureFormat("bc1-rgba-unorm", 8, (4, 4))
    assert texture_bytes(5, 4, compressed) == 2 * 1 * 8
