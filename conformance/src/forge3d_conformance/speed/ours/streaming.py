"""Both ways at once, and frames that go up, through a kernel and home."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from forge3d_conformance.speed.contestant import Runner
from forge3d_conformance.speed.ours.operands import Maker, Operands
from forge3d_conformance.speed.payload import payload
from forge3d_core.protocols import ReadbackHandle

DEPTH = 3
FRAMES = 12
GROUP = 64  # threads, of the suite's kernel


def _duplex(on: Operands, nbytes: int) -> Runner:
    """A staged slice up and a lease down at once; an operation moves ``nbytes`` each way."""
    target, source = on.buffer(nbytes), on.buffer(nbytes)
    ring, pool = on.ring(2, nbytes), on.pool(2, nbytes)

    def call() -> None:
        ring.reserve(nbytes).commit(target)
        point = ring.advance()
        pool.read(source).lease().release()
        point.wait()

    return Runner(call)


def _duplex_owned(on: Operands, nbytes: int) -> Runner:
    """Pageable memory both ways: an upload while a read into a given array is on its way."""
    target, source, data = on.buffer(nbytes), on.buffer(nbytes), payload(nbytes)
    ring, pool, out = on.ring(), on.pool(), np.zeros(nbytes, np.uint8)

    def call() -> None:
        handle = pool.read(source, out=out)
        point = ring.upload(data, target)
        handle.wait()
        point.wait()

    return Runner(call)


def _frame(on: Operands, nbytes: int) -> Runner:
    """A staged slice up, a kernel over it, a lease of it home; three frames on the device at once."""
    device, kernel = on.device, on.kernel
    buffers = [on.buffer(nbytes) for _ in range(DEPTH)]
    ring, pool = on.ring(DEPTH, nbytes), on.pool(DEPTH, nbytes)
    words = nbytes // 4
    threads = min(words, device.limits.max_groups[0] * GROUP)  # as many as one dispatch may have

    def call() -> None:
        coming: deque[ReadbackHandle] = deque()
        for frame in range(FRAMES):
            buffer = buffers[frame % DEPTH]
            if len(coming) == DEPTH:
                coming.popleft().lease().release()
            ring.reserve(nbytes).commit(buffer)
            ring.advance()
            device.submit(device.command_list().dispatch(kernel, [buffer], [1, words], threads=threads))
            coming.append(pool.read(buffer))
        for handle in coming:
            handle.lease().release()

    return Runner(call, operations=FRAMES)


STREAMING: Mapping[str, Maker] = {
    "duplex": _duplex,
    "duplex-owned": _duplex_owned,
    "frame": _frame,
}
