"""What a device's link allows: how fast memory moves that need not be copied on the way."""

from __future__ import annotations

import time
from collections.abc import Callable

from forge3d_core.protocols import Device

BLOCK = 16 << 20
REPEATS = 8


def link_seconds(device: Device, up: int, down: int) -> float:
    """Return how long ``up`` and ``down`` bytes take at least, each way at the speed of its direction.

    Measured with slices that are not filled and leases that are not read, alone one after the other, in
    blocks of at most 16 MiB: the smaller of the two, were both ways moved at once, is hidden by the larger.
    """
    nbytes = min(BLOCK, up, down)
    buffer = device.create_buffer(nbytes)
    with (
        device.staging_ring(ring_count=2, buffer_size=nbytes) as ring,
        device.readback_pool(max_pending_ops=2, buffer_size=nbytes) as pool,
    ):

        def send() -> None:
            ring.reserve(nbytes).commit(buffer)
            ring.advance().wait()

        sent = _best(send)
        fetched = _best(lambda: pool.read(buffer).lease().release())
    buffer.close()
    return max(sent * up, fetched * down) / nbytes


def _best(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)
