"""Memory that is adopted twice, on every backend: what uses it is put in order."""

from __future__ import annotations

import numpy as np

from forge3d_core import Device, ReadbackPool, StagingRing
from forge3d_core.device.device import AssembledDevice


def test_what_one_writes_the_other_reads(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    assert isinstance(device, AssembledDevice)
    owner = device.create_buffer(4096)
    one, other = device.adopt(owner.native), device.adopt(owner.native)
    assert one.allocation is other.allocation
    for value in range(1, 9):
        ring.upload(np.full(4096, value, np.uint8), one)
        assert (pool.read(other).wait(30) == value).all()
