"""A handle in a forked child, where the threads that copy and the locks' owners are missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.transfer.copying import PARALLEL_BYTES

from ..fork import complaints_of_a_child


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_reads_of_the_parents_raise_in_the_child(device: AssembledDevice, patience: float) -> None:
    """However far they had come: complete, landed, leased or in flight."""
    device.copier.threads = 4
    nbytes = 4 * PARALLEL_BYTES
    buffer, pool = device.create_buffer(nbytes), device.readback_pool(buffer_size=nbytes)
    landed = pool.read(buffer)
    landed.wait(patience)  # starts the threads that copy, which the child lacks
    leased, complete = pool.read(buffer), pool.read(buffer)
    lease = leased.lease(patience)
    complete.point.wait(patience)
    with device.native.hold("download"):
        flying = pool.read(buffer)
        handles = [landed, leased, complete, flying]
        calls: list[Callable[[], Any]] = [
            ask
            for handle in handles
            for ask in (
                handle.wait,
                handle.try_get,
                handle.lease,
                lambda handle=handle: asyncio.run(take(handle)),
            )
        ]
        quiet = [*(handle.cancel for handle in handles), lease.release]
        locks = [pool.blocks.lock, *(handle._lock for handle in handles)]
        assert complaints_of_a_child(calls, quiet, locks, patience) == []
    lease.release()
    for handle in (landed, complete, flying):
        assert not handle.wait(patience).any()


async def take(handle: Any) -> Any:
    return await handle
