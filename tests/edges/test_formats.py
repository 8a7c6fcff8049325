"""Every format of WebGPU that a device lists, on every backend: there and back, or refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import forge3d_core as forge3d
from forge3d_core import Device, ReadbackPool, StagingRing
from forge3d_core.formats import ASPECTS, FORMATS, UNCOPYABLE, is_depth_stencil, texel_dtype
from forge3d_core.protocols import TextureFormat

PATIENCE = 30.0
PLAIN = [name for name, format in FORMATS.items() if format.block == (1, 1) and not is_depth_stencil(format)]
COMPRESSED = [name for name, format in FORMATS.items() if format.block != (1, 1)]


def texels(format: TextureFormat, rows: int, columns: int) -> NDArray[Any]:
    """Return texels of any bytes, but for floats, which a copy may not have to keep where they are none."""
    dtype, channels = texel_dtype(format)
    plain = channels == 1 and format.block == (1, 1)
    shape = (rows, columns) if plain else (rows, columns, channels)
    return np.random.default_rng(1).integers(0, 100, shape).astype(dtype)


def wanted(device: Device, name: str) -> None:
    if name not in device.limits.texture_formats:
        with pytest.raises(forge3d.UsageError, match=name):
            device.create_texture(60, 60, name)
        pytest.skip(f"{device.info.name} has no {name}, and says so")


@pytest.mark.parametrize("name", PLAIN)
def test_texels_of_a_format(device: Device, ring: StagingRing, pool: ReadbackPool, name: str) -> None:
    wanted(device, name)
    with device.create_texture(7, 5, name) as texture:
        assert not pool.read(texture).wait(PATIENCE).any()
        data = texels(texture.format, 5, 7)
        ring.upload(data, texture)
        part = texels(texture.format, 2, 3)[::-1]
        ring.upload(part, texture, origin=(3, 1))
        data[1:3, 3:6] = part
        np.testing.assert_array_equal(pool.read(texture).wait(PATIENCE), data)
        np.testing.assert_array_equal(
            pool.read(texture, origin=(2, 1), size=(4, 3)).wait(PATIENCE), data[1:4, 2:6]
        )


@pytest.mark.parametrize("name", COMPRESSED)
def test_blocks_of_a_format(device: Device, ring: StagingRing, pool: ReadbackPool, name: str) -> None:
    wanted(device, name)
    across, down = FORMATS[name].block
    with device.create_texture(5 * across, 3 * down, name) as texture:
        data = texels(texture.format, 3, 5)
        ring.upload(data, texture)
        part = texels(texture.format, 2, 2)[::-1]
        ring.upload(part, texture, origin=(3 * across, down))
        data[1:, 3:] = part
        np.testing.assert_array_equal(pool.read(texture).wait(PATIENCE), data)
        corner = pool.read(texture, origin=(across, down), size=(2 * across, down)).wait(PATIENCE)
        np.testing.assert_array_equal(corner, data[1:2, 1:3])
        with pytest.raises(forge3d.UsageError, match="blocks"):
            pool.read(texture, origin=(1, 0), size=(across, down))
        with pytest.raises(forge3d.UsageError, match="blocks"):
            device.create_texture(across + 1, down, name)


@pytest.mark.parametrize("name", ["stencil8", "depth16unorm", "depth32float", *ASPECTS])
def test_depth_and_stencil(device: Device, ring: StagingRing, pool: ReadbackPool, name: str) -> None:
    wanted(device, name)
    only_read = device.limits.whole_depth_copies
    with device.create_texture(9, 6, name) as texture:
        parts = [texture.view(aspect=aspect) for aspect in ASPECTS.get(name, ())] or [texture]
        for part in parts:
            data = texels(part.format, 6, 9)
            if part.format.name in UNCOPYABLE or (only_read and part.format.name == "depth32float"):
                with pytest.raises(forge3d.UsageError, match=part.format.name):
                    ring.upload(data, part)
            else:
                ring.upload(data, part)
                np.testing.assert_array_equal(pool.read(part).wait(PATIENCE), data)
            if only_read:
                with pytest.raises(forge3d.UsageError, match=r"whole|no layout"):
                    pool.read(part, size=(3, 3))


@pytest.mark.parametrize("name", sorted(UNCOPYABLE))
def test_what_no_copy_moves(device: Device, pool: ReadbackPool, name: str) -> None:
    wanted(device, name)
    with device.create_texture(4, 4, name) as texture, pytest.raises(forge3d.UsageError, match="no layout"):
        pool.read(texture)


def test_depth_that_does_not_fit_in_a_block(device: Device) -> None:
    data = np.random.default_rng(1).integers(0, 1 << 16, (300, 300)).astype("u2")
    with device.create_texture(300, 300, "depth16unorm") as texture, device.readback_pool() as pool:
        with device.staging_ring(buffer_size="64 KiB") as small:
            if device.limits.whole_depth_copies:
                with pytest.raises(forge3d.TooLarge, match="buffer_size"):
                    small.upload(data, texture)
        with device.staging_ring(buffer_size="256 KiB") as ring:
            ring.upload(data, texture)
        np.testing.assert_array_equal(pool.read(texture).wait(PATIENCE), data)


def test_a_format_of_another_block_is_not_webgpus(device: Device) -> None:
    before = device.budget.metrics()
    for block in ((12, 10), (1, 2)):
        with pytest.raises(forge3d.UsageError, match=r"bc1-rgba-unorm.*the name alone"):
            device.create_texture(8, 8, TextureFormat("bc1-rgba-unorm", 8, block))
    assert device.budget.metrics() == before
