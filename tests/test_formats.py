from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_core.errors import UsageError
from forge3d_core.formats import (
    FORMATS,
    UNCOPYABLE,
    TextureShape,
    row_bytes,
    texture_bytes,
    texture_format,
)
from forge3d_core.protocols import TextureFormat


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_texel_is_its_channels(name: str) -> None:
    layout = FORMATS[name]
    assert layout.name == name
    if layout.dtype is not None:
        assert layout.block_bytes == layout.channels * np.dtype(layout.dtype).itemsize
    else:
        assert layout.block != (1, 1) or name in UNCOPYABLE


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


def test_every_format_of_webgpu_has_its_bytes() -> None:
    diagnostics = pytest.importorskip("wgpu._diagnostics", reason="wgpu-py's own table of formats")
    wgpu = pytest.importorskip("wgpu")
    assert set(FORMATS) == set(wgpu.TextureFormat)
    for name, bits in diagnostics.texture_format_to_bpp.items():
        if bits is None or name.startswith(("depth", "stencil")):
            continue
        layout = FORMATS[name]
        assert layout.block_bytes * 8 / (layout.block[0] * layout.block[1]) == pytest.approx(bits, abs=5e-3)


@pytest.mark.parametrize(
    ("name", "ratio"),
    [("bc1-rgba-unorm", 8), ("bc3-rgba-unorm", 4), ("bc5-rg-unorm", 4), ("bc7-rgba-unorm-srgb", 4)],
)
def test_what_compression_saves_against_rgba8(name: str, ratio: int) -> None:
    shape = TextureShape(1024, 1024)
    assert shape.nbytes(FORMATS["rgba8unorm"]) == ratio * shape.nbytes(FORMATS[name])


def test_levels_halve_in_each_direction_down_to_one_texel() -> None:
    flat = TextureShape(9, 4, mip_levels=4)
    assert [flat.level(n) for n in range(4)] == [(9, 4, 1), (4, 2, 1), (2, 1, 1), (1, 1, 1)]
    assert flat.nbytes(FORMATS["rgba8unorm"]) == 4 * (36 + 8 + 2 + 1)
    solid = TextureShape(8, 4, depth=2, mip_levels=3)
    assert solid.nbytes(FORMATS["r8unorm"]) == 64 + 8 + 2


def test_a_partial_block_takes_a_whole_one() -> None:
    shape = TextureShape(10, 10, mip_levels=4)
    assert [shape.level_bytes(n, FORMATS["bc1-rgba-unorm"]) for n in range(4)] == [9 * 8, 4 * 8, 8, 8]
    assert shape.level_bytes(0, FORMATS["astc-12x10-unorm"]) == 16


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    layers=st.integers(1, 7),
    name=st.sampled_from(sorted(FORMATS)),
)
def test_all_levels_are_less_than_the_whole_chain_allows(
    width: int, height: int, layers: int, name: str
) -> None:
    layout = FORMATS[name]
    one = TextureShape(width, height)
    full = TextureShape(width, height, layers=layers, mip_levels=one.most_levels)
    rest = sum(full.level_bytes(n, layout) for n in range(1, one.most_levels))
    assert full.nbytes(layout) == layers * (one.nbytes(layout) + rest)
    assert full.level(one.most_levels - 1) == (1, 1, 1)


def test_a_cube_has_six_faces_and_samples_multiply() -> None:
    rgba = FORMATS["rgba8unorm"]
    assert TextureShape.cube(16).nbytes(rgba) == 6 * 16 * 16 * 4
    assert TextureShape(16, 16, samples=4).nbytes(rgba) == 4 * 16 * 16 * 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"depth": 2, "layers": 2}, "layers"),
        ({"mip_levels": 6}, "5 levels"),
        ({"samples": 2}, "1 or 4"),
        ({"samples": 4, "mip_levels": 2}, "one level"),
        ({"layers": 0}, "layers"),
    ],
)
def test_no_texture_is_like_that(arguments: dict[str, int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        TextureShape(16, 16, **arguments)
    with pytest.raises(UsageError, match="levels 0 to 0"):
        TextureShape(16, 16).level(1)


def test_rows_are_padded_in_whole_blocks() -> None:
    assert row_bytes(100, FORMATS["rgba8unorm"], 256) == 512
    assert row_bytes(9, FORMATS["bc1-rgba-unorm"]) == 3 * 8
