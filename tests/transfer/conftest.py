"""Devices whose uploads all go through chunks, of the smallest size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.transfer.tuning import Tuning
from forge3d_core.transfer.workers import Crew

CHUNK = 64 * 1024


@pytest.fixture
def open_bulk(open_device: Callable[..., AssembledDevice]) -> Callable[..., AssembledDevice]:
    """Return a function that opens a host device with chunks of 64 KiB and three workers of its own."""

    def make(selector: str = "", *, helpers: int = 3, **options: Any) -> AssembledDevice:
        device = open_device(selector, **options)
        device.transfers.crew = Crew(threads=3, idle=0.01)
        device.transfers.tuning = Tuning(
            threshold=1, share=CHUNK // 2, smallest=CHUNK, largest=CHUNK, helpers=helpers
        )
        return device

    return make


@pytest.fixture
def bulk(open_bulk: Callable[..., AssembledDevice]) -> AssembledDevice:
    return open_bulk()
