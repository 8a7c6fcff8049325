"""Textures whose rows the API would rather have padded, on every backend: a clear error, or right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import forge3d_core as forge3d
from forge3d_core import Device, ReadbackPool, StagingRing

PATIENCE = 30.0
FORMATS = ("r8unorm", "rg8uint", "rgba8unorm", "r16uint", "rg16float", "r32float", "rgba32float")


def texels(width: int, height: int, format: str) -> NDArray[Any]:
    """Return values that every format can hold, of its channels' dtype."""
    channels = 4 if format.startswith("rgba") else 2 if format.startswith("rg") else 1
    bits = 8 if "8" in format else 16 if "16" in format else 32
    dtype = f"f{bits // 8}" if format.endswith("float") else f"u{bits // 8}"
    values = np.random.default_rng(2).integers(0, 200, (height, width, channels)).astype(dtype)
    return values[:, :, 0].copy() if channels == 1 else values


@pytest.mark.parametrize("format", FORMATS)
def test_textures_of_odd_widths(device: Device, ring: StagingRing, pool: ReadbackPool, format: str) -> None:
    for width, height in ((1, 1), (3, 2), (7, 5), (63, 3), (65, 4), (100, 2)):
        texture = device.create_texture(width, height, format)
        assert not pool.read(texture).wait(PATIENCE).any()
        whole = texels(width, height, format)
        ring.upload(whole, texture)
        assert (pool.read(texture).wait(PATIENCE) == whole).all(), (width, height)
        if width > 2 and height > 1:
            part = texels(width - 2, 1, format) + whole.dtype.type(1)
            ring.upload(part, texture, origin=(1, height - 1))
            whole[height - 1 :, 1 : width - 1] = part
            assert (pool.read(texture).wait(PATIENCE) == whole).all(), (width, height)
            corner = pool.read(texture, origin=(width - 2, 0), size=(2, height)).wait(PATIENCE)
            assert (corner == whole[:, width - 2 :]).all()
        texture.close()


def test_rows_by_hand(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    texture = device.create_texture(5, 3, "rgba8unorm")
    pitch = device.limits.row_pitch_alignment * -(-24 // device.limits.row_pitch_alignment)
    whole = texels(5, 3, "rgba8unorm")
    slot = ring.reserve(2 * pitch + 20)
    for bad in (19, pitch + 1 if device.limits.row_pitch_alignment > 1 else 19):
        with pytest.raises(forge3d.UsageError):
            slot.commit_rows(texture, row_pitch=bad)
    for y in range(3):
        slot.view[y * pitch : y * pitch + 20] = whole[y].reshape(-1)
    with pytest.raises(forge3d.OutOfRange):
        slot.commit_rows(texture, origin=(1, 0), size=(5, 3))
    with pytest.raises(forge3d.ForeignObject):
        slot.commit(texture)
    slot.commit_rows(texture, row_pitch=pitch)
    ring.advance()
    assert (pool.read(texture).wait(PATIENCE) == whole).all()


def test_rows_wider_than_a_block(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    texture = device.create_texture(1500, 2, "rgba8unorm")
    texels = np.random.default_rng(5).integers(0, 256, (2, 1401, 4), dtype=np.uint8)
    ring.upload(texels, texture, origin=(7, 0))
    read = pool.read(texture).wait(PATIENCE)
    assert (read[:, 7:1408] == texels).all()
    assert not read[:, :7].any()
    assert not read[:, 1408:].any()


def test_texture_uploads_that_do_not_fit(device: Device, ring: StagingRing) -> None:
    texture = device.create_texture(8, 8, "rgba8unorm")
    for error, data, keys in (
        (forge3d.UsageError, np.zeros((8, 8, 3), np.uint8), {}),
        (forge3d.UsageError, np.zeros(256, np.uint8), {}),
        (forge3d.UsageError, np.zeros((8, 8, 4), np.uint8), {"offset": 4}),
        (forge3d.OutOfRange, np.zeros((9, 8, 4), np.uint8), {}),
        (forge3d.OutOfRange, np.zeros((8, 8, 4), np.uint8), {"origin": (0, 1)}),
    ):
        with pytest.raises(error):
            ring.upload(data, texture, **keys)
    ring.upload(np.zeros((0, 8, 4), np.uint8), texture)
    for width, height, format in ((0, 1, "r8unorm"), (1, 10**6, "r8unorm"), (1, 1, "r9unorm")):
        with pytest.raises(forge3d.UsageError):
            device.create_texture(width, height, format)
