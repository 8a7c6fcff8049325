"""A budget with no room to spare, on every backend: what one thread gave back it can have again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import forge3d_core as forge3d

PATIENCE = 30.0
BLOCK = 65536
THREADS = 3
SHARE = 4  # blocks for each
ROUNDS = 25


@pytest.mark.parametrize("seed", range(2))
def test_threads_that_keep_to_their_share_are_never_refused(backend: str, seed: int) -> None:
    """Each makes rings of its own share, one after the other, and a monitor asks all the time.

    Whoever waited for the device has its blocks back, though another thread may just be freeing them.
    """
    with forge3d.open_device(backend, budget=THREADS * SHARE * BLOCK) as device:
        over = threading.Event()

        def watch() -> int:
            most = 0
            while not over.is_set():
                most = max(most, device.budget.metrics().host_visible_bytes)
            return most

        def work(number: int) -> None:
            draw = np.random.default_rng([seed, number])
            target = device.create_buffer(SHARE * BLOCK)
            for _ in range(ROUNDS):
                count = int(draw.integers(1, SHARE + 1))
                data = draw.integers(0, 256, int(draw.integers(1, count * BLOCK)), dtype=np.uint8)
                with device.staging_ring(ring_count=count, buffer_size=BLOCK) as ring:
                    point = ring.upload(data, target)
                    if draw.random() < 0.5:
                        point.wait(PATIENCE)
                point.wait(PATIENCE)

        with ThreadPoolExecutor() as threads:
            monitor = threads.submit(watch)
            try:
                for worker in [threads.submit(work, number) for number in range(THREADS)]:
                    worker.result(4 * PATIENCE)
            finally:
                over.set()
            assert monitor.result(PATIENCE) <= THREADS * SHARE * BLOCK
        metrics = device.budget.metrics()
        assert (metrics.host_visible_bytes, metrics.refusals) == (0, 0)
