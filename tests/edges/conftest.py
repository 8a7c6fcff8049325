"""A device of each backend, with a small ring and a small pool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import forge3d_core as forge3d
from forge3d_core import Device, ReadbackPool, StagingRing


@pytest.fixture(scope="module")
def device(backend: str) -> Iterator[Device]:
    with forge3d.open_device(backend) as opened:
        yield opened


@pytest.fixture
def ring(device: Device) -> Iterator[StagingRing]:
    with device.staging_ring(ring_count=3, buffer_size=4096) as made:
        yield made


@pytest.fixture
def pool(device: Device) -> Iterator[ReadbackPool]:
    with device.readback_pool(buffer_size=4096) as made:
        yield made
