"""A ring of three blocks of 1 KiB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Closed, ForeignObject, OutOfRange
from forge3d_core.ring.ring import Ring


@pytest.fixture
def ring(device: AssembledDevice) -> Ring:
    return device.staging_ring(ring_count=3, buffer_size=1024)


@pytest.fixture
def wrong_targets(
    device: AssembledDevice, open_device: Callable[..., AssembledDevice]
) -> list[tuple[Any, int, type[Exception]]]:
    """Where 64 bytes cannot go: a target, an offset in it and the error that says so."""
    buffer, closed = device.create_buffer(64), device.create_buffer(64)
    closed.close()
    return [
        (buffer, 1, OutOfRange),
        (buffer, -1, OutOfRange),
        (open_device().create_buffer(64), 0, ForeignObject),
        (closed, 0, Closed),
        (np.zeros(64, np.uint8), 0, ForeignObject),
        (None, 0, ForeignObject),
    ]
