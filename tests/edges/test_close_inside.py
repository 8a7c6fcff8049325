"""A device that closes while another thread is inside numpy with host-visible memory, on every backend."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

import forge3d_core as forge3d

PATIENCE = 30.0
SIZE = 1 << 20  # so much that freed memory goes back to the system, and a late access is a crash


class Slow:
    """A number that numpy has to wait for in the middle of a loop."""

    def __init__(self) -> None:
        self.reached, self.leave = threading.Event(), threading.Event()

    def __int__(self) -> int:
        self.reached.set()
        self.leave.wait(PATIENCE)
        return 1


def test_a_thread_that_writes_a_slice(backend: str, background: Callable[..., Any]) -> None:
    device = forge3d.open_device(backend)
    slot, slow = device.staging_ring(ring_count=1, buffer_size=SIZE).reserve(SIZE), Slow()
    numbers = np.full(SIZE, 1, object)
    numbers[0] = slow
    writing = background(lambda: np.copyto(slot.view, numbers, casting="unsafe"))
    assert slow.reached.wait(PATIENCE)
    device.close()
    slow.leave.set()
    writing.result(PATIENCE)


def test_a_thread_that_reads_a_lease(backend: str, background: Callable[..., Any]) -> None:
    device = forge3d.open_device(backend)
    buffer, pool = device.create_buffer(SIZE), device.readback_pool(buffer_size=SIZE)
    lease, slow = pool.read(buffer).lease(PATIENCE), Slow()
    look = np.frompyfunc(lambda byte: byte if slow.reached.is_set() else byte + int(slow), 1, 1)
    reading = background(lambda: look(lease.array))
    assert slow.reached.wait(PATIENCE)
    device.close()
    slow.leave.set()
    seen = reading.result(PATIENCE)
    assert (seen[0], seen[1:].any()) == (1, False)
