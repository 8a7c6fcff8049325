"""Levels, layers, depth and samples, on every backend: each part by itself, and nothing beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import forge3d_core as forge3d
from forge3d_core import Device, ReadbackPool, StagingRing

PATIENCE = 30.0


def noise(*shape: int, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)


def test_each_level_and_layer_is_its_own(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    texture = device.create_texture(9, 6, "rgba8unorm", layers=3, mip_levels=4)
    assert (texture.layers, texture.mip_levels, texture.depth, texture.samples) == (3, 4, 1, 1)
    levels = [texture.view(level=number) for number in range(4)]
    assert [(level.width, level.height) for level in levels] == [(9, 6), (4, 3), (2, 1), (1, 1)]
    data = [noise(3, level.height, level.width, 4, seed=n) for n, level in enumerate(levels)]
    for level, texels in zip(levels, data, strict=True):
        assert not pool.read(level).wait(PATIENCE).any()
        ring.upload(texels, level)
    for number, texels in enumerate(data):
        np.testing.assert_array_equal(pool.read(levels[number]).wait(PATIENCE), texels)
        for layer in range(3):
            part = texture.view(level=number, layer=layer)
            np.testing.assert_array_equal(pool.read(part).wait(PATIENCE), texels[layer])
    one = noise(2, 3, 4, seed=9)
    ring.upload(one, texture.view(layer=1), origin=(4, 2))
    data[0][1, 2:4, 4:7] = one
    np.testing.assert_array_equal(pool.read(texture).wait(PATIENCE), data[0])
    np.testing.assert_array_equal(
        pool.read(texture, origin=(2, 1, 1), size=(5, 3, 2)).wait(PATIENCE), data[0][1:3, 1:4, 2:7]
    )


def test_a_box_of_a_volume(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    volume = device.create_texture(12, 10, "r16uint", depth=6, mip_levels=2)
    data = noise(6, 10, 12).astype(np.uint16)
    ring.upload(data, volume)
    box = noise(2, 3, 4, seed=1).astype(np.uint16)
    ring.upload(box, volume, origin=(1, 2, 3))
    data[3:5, 2:5, 1:5] = box
    np.testing.assert_array_equal(pool.read(volume).wait(PATIENCE), data)
    half = volume.view(level=1)
    assert (half.width, half.height, half.depth) == (6, 5, 3)
    assert not pool.read(half).wait(PATIENCE).any()
    with pool.read(volume, origin=(5, 1, 2), size=(3, 4, 3)).lease(PATIENCE) as lent:
        np.testing.assert_array_equal(lent, data[2:5, 1:5, 5:8])
    with pytest.raises(forge3d.UsageError, match="no layers"):
        volume.view(layer=0)


def test_large_layers_come_in_pieces(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    texture = device.create_texture(511, 500, "rgba32float", layers=3)
    data = np.random.default_rng(3).random((3, 500, 511, 4), dtype=np.float32)
    ring.upload(data, texture)
    np.testing.assert_array_equal(pool.read(texture).wait(PATIENCE), data)
    np.testing.assert_array_equal(pool.read(texture.view(layer=2)).wait(PATIENCE), data[2])


def test_rows_by_hand_for_a_layer(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    texture, data = device.create_texture(5, 3, "rgba8unorm", layers=2), noise(2, 3, 5, 4)
    pitch = -(-20 // device.limits.row_pitch_alignment) * device.limits.row_pitch_alignment
    slot = ring.reserve(5 * pitch + 20)
    slot.view[: 5 * pitch] = 0
    for row, texels in enumerate(data.reshape(6, 20)):
        slot.view[row * pitch : row * pitch + 20] = texels
    slot.commit_rows(texture, row_pitch=pitch)
    ring.advance()
    np.testing.assert_array_equal(pool.read(texture).wait(PATIENCE), data)


def test_what_a_compressed_level_ends_in(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    if "bc1-rgba-unorm" not in device.limits.texture_formats:
        pytest.skip("this device has no bc1-rgba-unorm")
    texture = device.create_texture(12, 8, "bc1-rgba-unorm", mip_levels=4, layers=2)
    for number, (rows, columns) in enumerate([(2, 3), (1, 2), (1, 1), (1, 1)]):
        level, data = texture.view(level=number), noise(2, rows, columns, 8, seed=number)
        ring.upload(data, level)
        np.testing.assert_array_equal(pool.read(level).wait(PATIENCE), data)


def test_a_view_goes_with_its_texture(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    before = device.budget.metrics().texture_bytes
    texture = device.create_texture(8, 8, "rgba8unorm", mip_levels=2)
    assert device.budget.metrics().texture_bytes - before >= texture.nbytes == 4 * (64 + 16)
    view = texture.view(level=1)
    view.close()
    assert view.closed
    assert not texture.closed
    with pytest.raises(forge3d.Closed):
        pool.read(view)
    second = texture.view(level=1)
    with pytest.raises(forge3d.UsageError, match="a part"):
        second.view()
    texture.close()
    assert second.closed
    with pytest.raises(forge3d.Closed):
        ring.upload(noise(4, 4, 4), second)
    with pytest.raises(forge3d.Closed):
        texture.view()
    assert device.budget.metrics().texture_bytes == before


def test_samples_are_not_copied(device: Device, pool: ReadbackPool) -> None:
    texture = device.create_texture(8, 8, "rgba8unorm", samples=4)
    with pytest.raises(forge3d.UsageError, match="4 samples"):
        pool.read(texture)


@pytest.mark.parametrize(
    ("size", "extent", "says"),
    [
        ((8, 8), {"layers": 0}, "layers"),
        ((8, 8), {"layers": 10**6}, "1 to"),
        ((8, 8), {"depth": 10**6}, "3-d"),
        ((8, 8), {"mip_levels": 5}, "4 levels"),
        ((8, 8), {"depth": 2, "layers": 2}, "no layers"),
        ((8, 8), {"samples": 3}, "samples"),
        ((8, 8), {"layer": 2}, "layers"),
    ],
)
def test_there_is_no_such_texture(
    device: Device, size: tuple[int, int], extent: dict[str, int], says: str
) -> None:
    before = device.budget.metrics()
    with pytest.raises(forge3d.UsageError, match=says):
        device.create_texture(*size, **extent)
    assert device.budget.metrics() == before


def test_parts_that_are_not_there(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    texture = device.create_texture(8, 8, "rgba8unorm", layers=2)
    for arguments in ({"level": 1}, {"layer": 2}, {"layer": -1}, {"aspect": "depth"}, {"level": 0.5}):
        with pytest.raises(forge3d.UsageError):
            texture.view(**arguments)  # type: ignore[arg-type]
    with pytest.raises(forge3d.OutOfRange):
        pool.read(texture, origin=(0, 0, 1), size=(8, 8, 2))
    with pytest.raises(forge3d.UsageError, match="slices"):
        ring.upload(noise(8, 8, 4), texture)
    with pytest.raises(forge3d.OutOfRange):
        ring.upload(noise(2, 8, 8, 4), texture, origin=(0, 0, 1))
