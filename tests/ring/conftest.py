"""A ring of three blocks of 1 KiB."""

from __future__ import annotations

import pytest

from forge3d_core.device import AssembledDevice
from forge3d_core.ring import Ring


@pytest.fixture
def ring(device: AssembledDevice) -> Ring:
    return device.staging_ring(ring_count=3, buffer_size=1024)
