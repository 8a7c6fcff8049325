"""Texture formats that no upload or read could handle, on every backend: refused, and nothing changed."""

from __future__ import annotations

import pytest

import forge3d_core as forge3d
from forge3d_core import Device
from forge3d_core.protocols import TextureFormat


def test_a_compressed_format_makes_no_texture(device: Device) -> None:
    """A read of it took texels for blocks, and showed what else had been in its host block."""
    before = device.budget.metrics()
    for block in ((4, 4), (12, 10), (1, 2)):
        with pytest.raises(forge3d.UsageError, match=r"bc1-rgba-unorm.*(blocks of|the name alone)"):
            device.create_texture(8, 8, TextureFormat("bc1-rgba-unorm", 8, block))
    assert device.budget.metrics() == before
