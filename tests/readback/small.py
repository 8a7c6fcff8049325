"""A pool of one small block, so that the second read meets the first."""

from __future__ import annotations

from typing import Any

from forge3d_core.device.device import AssembledDevice
from forge3d_core.readback.pool import Pool


def small_pool(device: AssembledDevice, **config: Any) -> Pool:
    return device.readback_pool(**{"max_pending_ops": 1, "buffer_size": 4096, **config})
