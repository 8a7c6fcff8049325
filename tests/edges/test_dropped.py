"""A device that nobody closed, on every backend: the collector finds it, and it is closed all the same."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest

import forge3d_core as forge3d
from forge3d_core.device.device import AssembledDevice


def used(backend: str) -> weakref.ref[AssembledDevice]:
    device = forge3d.open_device(backend)
    assert isinstance(device, AssembledDevice)
    buffer, ring, pool = device.create_buffer(4096), device.staging_ring(), device.readback_pool()
    ring.upload(np.ones(4096, np.uint8), buffer)
    assert pool.read(buffer).wait(20).all()
    device.submit(device.command_list().fill(buffer, 2))  # in flight when it is dropped
    return weakref.ref(device)


def test_a_dropped_device_closes_itself(
    backend: str, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    closed: list[threading.Thread] = []
    close = AssembledDevice.close

    def noting(self: AssembledDevice) -> None:
        close(self)
        closed.append(threading.current_thread())

    monkeypatch.setattr(AssembledDevice, "close", noting)
    device = used(backend)
    until(lambda: (gc.collect(), bool(closed))[1])
    assert threading.current_thread() not in closed
    until(lambda: (gc.collect(), device() is None)[1])
