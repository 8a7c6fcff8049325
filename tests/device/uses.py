"""Every way to use a device and what it made: what must fail once the device is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from forge3d_core.device.device import AssembledDevice
from forge3d_core.protocols import KernelSource


def uses(device: AssembledDevice) -> list[Callable[[], Any]]:
    """Return every way to use a device and what it made."""
    buffer, texture = device.create_buffer(64), device.create_texture(4, 4)
    ring, pool = device.staging_ring(), device.readback_pool()
    slot, commands = ring.allocate(8), device.command_list()
    assert slot is not None
    stream = pool.stream(buffer)
    return [
        lambda: device.create_buffer(4),
        lambda: device.create_texture(4, 4),
        lambda: device.create_kernel(KernelSource("k", {"host": print})),
        device.command_list,
        lambda: device.submit(commands),
        device.staging_ring,
        device.readback_pool,
        lambda: device.adopt(np.zeros(4)),
        device.wait_idle,
        lambda: ring.allocate(4),
        lambda: ring.reserve(4),
        ring.advance,
        lambda: ring.upload(np.zeros(4), buffer),
        lambda: ring.upload(np.zeros((4, 4, 4), np.uint8), texture),
        lambda: slot.view,
        lambda: slot.commit(buffer),
        lambda: pool.read(buffer),
        lambda: pool.read(texture),
        stream.push,
        lambda: device.lanes["upload"].timeline.point(99).wait(20),
    ]
