"""Boxes of texels, copied by what moves bytes in host memory: every byte arrives, and no other changes."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as some
import numpy as np
from hypothesis import given

from forge3d_core.driver import DownloadRows, UploadRows
from forge3d_core.formats import FORMATS, TextureShape, block_rows, row_bytes
from forge3d_core.linear_texture import linear_bytes
from forge3d_core.memory.textures import TextureMemory
from forge3d_cuda.textures import TextureTransfers

NAMES = ("r8unorm", "rgba8unorm", "rgba32float", "bc1-rgba-unorm", "depth32float-stencil8")


def copy(target: int, source: int, nbytes: int, _kind: int, _stream: int) -> None:
    ctypes.memmove(target, source, nbytes)


def copy_rows(  # as cudaMemcpy2DAsync
    target: int, pitch: int, source: int, staged: int, nbytes: int, rows: int, _kind: int, _stream: int
) -> None:
    assert nbytes <= min(pitch, staged)
    for row in range(rows):
        ctypes.memmove(target + row * pitch, source + row * staged, nbytes)


RUNTIME = SimpleNamespace(memcpyAsync=copy, memcpy2DAsync=copy_rows)


@some.composite
def textures(draw: some.DrawFn) -> tuple[TextureShape, str]:
    """Draw a shape and a format that fit each other."""
    name = draw(some.sampled_from(NAMES))
    across, down = FORMATS[name].block
    width, height = draw(some.integers(1, 9)) * across, draw(some.integers(1, 9)) * down
    kind = draw(some.sampled_from(("depth", "layers")))
    most = max(width, height).bit_length()
    count = draw(some.integers(1, 4))
    return TextureShape(width, height, mip_levels=draw(some.integers(1, most)), **{kind: count}), name


@given(textures(), some.data())
def test_a_box_goes_up_and_comes_down(texture: tuple[TextureShape, str], data: Any) -> None:
    shape, name = texture
    whole = np.random.default_rng(1).integers(1, 256, linear_bytes(shape, FORMATS[name]), dtype=np.uint8)
    native = SimpleNamespace(data=SimpleNamespace(ptr=whole.ctypes.data))
    aspect = data.draw(some.sampled_from(("depth", "stencil"))) if name == "depth32float-stencil8" else "all"
    part = TextureMemory.of(native, shape, FORMATS[name]).part(
        data.draw(some.integers(0, shape.mip_levels - 1)), None, aspect
    )
    across, down = part.format.block
    x = data.draw(some.integers(0, (part.width - 1) // across)) * across
    y = data.draw(some.integers(0, (part.height - 1) // down)) * down
    z = data.draw(some.integers(0, part.slices - 1))
    size, slices = (part.width - x, part.height - y), data.draw(some.integers(1, part.slices - z))
    rows, run = block_rows(size[1], part.format), row_bytes(size[0], part.format)
    pitch = run + data.draw(some.sampled_from((0, 0, 3)))
    up = np.random.default_rng(2).integers(1, 256, (slices, rows, pitch), dtype=np.uint8)
    back = np.zeros_like(up)
    before = whole.copy()
    transfers = TextureTransfers.on(RUNTIME)
    staged = SimpleNamespace(address=up.ctypes.data)
    target: Any = SimpleNamespace(address=back.ctypes.data)
    for call, arguments in (
        transfers.upload_rows(UploadRows(staged, 0, pitch, part, (x, y), size, z, slices)),  # type: ignore[arg-type]
        transfers.download_rows(DownloadRows(part, (x, y), size, target, 0, pitch, z, slices)),
    ):
        call(*arguments, 0)
    np.testing.assert_array_equal(back[..., :run], up[..., :run])
    assert not back[..., run:].any()
    assert np.count_nonzero(whole != before) <= up[..., :run].size
