"""Arrays adopted as textures, on every backend whose memory is arrays; what is no texture is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import forge3d_core as forge3d
from forge3d_core import Device, ReadbackPool, StagingRing

PATIENCE = 30.0


@pytest.fixture
def array_of(device: Device) -> Any:
    """Return what makes an array in the device's memory, of the same values."""
    if device.info.backend == "host":
        return np.array
    if device.info.backend == "cuda":
        return pytest.importorskip("cupy").asarray
    pytest.skip(f"the memory of {device.info.backend} is no arrays")


@pytest.mark.parametrize(
    ("format", "dtype", "shape"),
    [
        ("rgba8unorm", "u1", (5, 7, 4)),
        ("r32float", "f4", (5, 7)),
        ("r8uint", "u1", (3, 5, 7)),
        ("rg16float", "f2", (2, 5, 7, 2)),
    ],
)
def test_an_array_is_a_texture(
    device: Any,
    ring: StagingRing,
    pool: ReadbackPool,
    array_of: Any,
    format: str,
    dtype: str,
    shape: tuple[int, ...],
) -> None:
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    own = array_of(values)
    with device.adopt(own, format=format) as texture:
        assert (texture.width, texture.height, texture.layers) == (7, 5, shape[0] if shape[1] == 5 else 1)
        np.testing.assert_array_equal(pool.read(texture).wait(PATIENCE), values)
        ring.upload(values[::-1], texture).wait(PATIENCE)
        np.testing.assert_array_equal(np.asarray(own.tolist(), dtype), values[::-1])


def test_what_is_no_texture(device: Any, array_of: Any) -> None:
    for shape, dtype, format in (
        ((5, 7, 3), "u1", "rgba8unorm"),
        ((5, 7, 4), "u2", "rgba8unorm"),
        ((5,), "u1", "r8unorm"),
        ((8, 8, 8), "u1", "bc1-rgba-unorm"),
    ):
        with pytest.raises(forge3d.UsageError):
            device.adopt(array_of(np.zeros(shape, dtype)), format=format)
