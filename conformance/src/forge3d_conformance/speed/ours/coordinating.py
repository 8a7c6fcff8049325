"""What a coordinator and a monitor add to the operations that go through them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from forge3d_conformance.speed.contestant import Runner
from forge3d_conformance.speed.ours.operands import Maker, Operands
from forge3d_core.pipeline import AsyncCoordinator, AsyncPerformanceMonitor

ROUNDS = 32
OPERATIONS = 3  # an upload, a kernel and a download
GROUP = 64


def _coordinate(on: Operands, nbytes: int) -> Runner:
    """Uploads, kernels and downloads through a coordinator, each behind the one before."""
    buffer, data, out = on.buffer(nbytes), np.zeros(nbytes, np.uint8), np.zeros(nbytes, np.uint8)
    coordinator = AsyncCoordinator(on.device, ring=on.ring(), pool=on.pool(ROUNDS, nbytes))
    on.stack.callback(coordinator.close)

    def call() -> None:
        for _ in range(ROUNDS):
            up = coordinator.queue_upload(data, buffer)
            done = coordinator.queue_compute(
                on.kernel, [up], buffers=[buffer], params=[1, GROUP], threads=GROUP
            )
            coordinator.queue_download(buffer, out, [done])
        coordinator.synchronize_all()
        coordinator.poll()

    return Runner(call, operations=ROUNDS * OPERATIONS)


def _direct(on: Operands, nbytes: int) -> Runner:
    """The same operations on the ring, the device and the pool."""
    buffer, data, out = on.buffer(nbytes), np.zeros(nbytes, np.uint8), np.zeros(nbytes, np.uint8)
    device, ring, pool = on.device, on.ring(), on.pool(ROUNDS, nbytes)

    def call() -> None:
        handles = []
        for _ in range(ROUNDS):
            up = ring.upload(data, buffer)
            commands = device.command_list().dispatch(on.kernel, [buffer], [1, GROUP], threads=GROUP)
            done = device.submit(commands, after=[up])
            handles.append(pool.read(buffer, out=out, after=[done]))
        for handle in handles:
            handle.wait()

    return Runner(call, operations=ROUNDS * OPERATIONS)


def _read_monitored(on: Operands, nbytes: int) -> Runner:
    """A read and its wait, timed by a monitor."""
    source, pool, monitor = on.buffer(nbytes), on.pool(), AsyncPerformanceMonitor()

    def call() -> None:
        with monitor.operation("read"):
            pool.read(source).wait()

    return Runner(call)


COORDINATING: Mapping[str, Maker] = {
    "coordinate": _coordinate,
    "direct": _direct,
    "read-monitored": _read_monitored,
}
