"""Upload, compute and download of given lengths, overlapped, beside what their parts allow.

The parts are staged slices, a kernel that computes and touches no memory, and leases, each made as long as
the name says: ``overlap-2-5-2`` is 2 ms, 5 ms and 2 ms. N frames cannot take less than all three parts once
and the longest of them N - 1 times more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.speed.contestant import Runner
from forge3d_conformance.speed.ours.operands import Maker, Operands
from forge3d_core.protocols import Binding, Device, Kernel, KernelSource, Param, ReadbackHandle

FRAMES = 100
DEPTH = 3  # frames that the device has buffers for
AHEAD = DEPTH + 2
"""Frames submitted and not landed. The device orders what shares a buffer; its queues need not run dry."""

REPEATS = 5
FIRST_BYTES = 1 << 20
FIRST_TURNS = 100_000
ALIGN = 4096


Times = tuple[float, float, float]
"""Of upload, compute and download."""


def _sleep(_threads: tuple[int, int, int], _data: NDArray[np.uint32], turns: int) -> None:
    time.sleep(turns * 1e-9)  # a host's kernel that takes time and no core: the lanes are what is measured


SPIN = KernelSource(
    name="spin",
    sources={
        "host": _sleep,
        "wgsl": """
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@group(0) @binding(1) var<uniform> turns: u32;
@compute @workgroup_size(64)
fn spin(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x > 0u) { return; }
    var word = data[0];
    for (var turn = 0u; turn < turns; turn = turn + 1u) { word = word * 1664525u + 1013904223u; }
    data[0] = word;
}
""",
        "cuda": """
extern "C" __global__ void spin(unsigned int* data, unsigned int turns) {
    if (blockIdx.x * blockDim.x + threadIdx.x > 0) return;
    unsigned int word = data[0];
    for (unsigned int turn = 0; turn < turns; ++turn) word = word * 1664525u + 1013904223u;
    data[0] = word;
}
""",
    },
    bindings=(Binding("data", "readwrite", "u4"),),
    params=(Param("turns"),),
)


@attrs.frozen(eq=False)
class Parts:
    """How much each part has to do to last as long as it should."""

    up: int
    turns: int
    down: int


class TimedParts(Protocol):
    """What does each part alone."""

    def seconds(self, parts: Parts) -> Times:
        """Return how long each part takes alone."""


MakeParts = Callable[[Operands, Parts], TimedParts]


class Frames:
    """The three parts over buffers, a ring and a pool of their own."""

    def __init__(self, on: Operands, most: int) -> None:
        self._device: Device = on.device
        self._kernel: Kernel = on.device.create_kernel(SPIN)
        self._buffers = [on.buffer(most) for _ in range(DEPTH)]
        self._ring = on.ring(AHEAD, most)
        self._pool = on.pool(AHEAD, most)

    def upload(self, nbytes: int, frame: int = 0) -> None:
        self._ring.reserve(nbytes).commit(self._buffers[frame % DEPTH])
        self._ring.advance()

    def compute(self, turns: int, frame: int = 0) -> None:
        commands = self._device.command_list()
        self._device.submit(
            commands.dispatch(self._kernel, [self._buffers[frame % DEPTH]], [turns], threads=1)
        )

    def download(self, nbytes: int, frame: int = 0) -> ReadbackHandle:
        return self._pool.read(self._buffers[frame % DEPTH], nbytes=nbytes)

    def overlapped(self, parts: Parts) -> None:
        coming: deque[ReadbackHandle] = deque()
        for frame in range(FRAMES):
            if len(coming) == AHEAD:
                coming.popleft().lease().release()
            self.upload(parts.up, frame)
            self.compute(parts.turns, frame)
            coming.append(self.download(parts.down, frame))
        for handle in coming:
            handle.lease().release()

    def seconds(self, parts: Parts) -> Times:
        """Return how long each part takes alone."""
        return (
            self._alone(lambda: self.upload(parts.up)),
            self._alone(lambda: self.compute(parts.turns)),
            self._alone(lambda: self.download(parts.down).lease().release()),
        )

    def _alone(self, part: Callable[[], object]) -> float:
        return median_seconds(self._device, part)


def median_seconds(device: Device, part: Callable[[], object]) -> float:
    """Return how long ``part`` takes on an idle device."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        part()
        device.wait_idle()
        taken.append(time.perf_counter() - start)
    return median(taken)


def perfect(seconds: Times) -> float:
    """Return the least that ``FRAMES`` frames take whose parts take ``seconds`` each."""
    return sum(seconds) + (FRAMES - 1) * max(seconds)


def find_parts(on: Operands, wanted: Times, name: str, make: MakeParts) -> Parts:
    """Return the parts that take about ``wanted`` milliseconds here; measured once for a device.

    ``make`` makes what times parts of at most so many bytes; ``name`` tells one of them from another.
    """
    key = f"{name} {wanted}"
    if key not in on.shared:
        sizes = Parts(FIRST_BYTES, FIRST_TURNS, FIRST_BYTES)
        for _ in range(3):
            with ExitStack() as stack:
                timed = make(attrs.evolve(on, stack=stack), sizes)
                up, compute, down = timed.seconds(sizes)
                del timed
            sizes = Parts(
                _scaled(sizes.up, wanted[0] * 1e-3 / up, ALIGN),
                _scaled(sizes.turns, wanted[1] * 1e-3 / compute, 1),
                _scaled(sizes.down, wanted[2] * 1e-3 / down, ALIGN),
            )
        on.shared[key] = sizes
    found: Parts = on.shared[key]
    return found


def _scaled(amount: int, factor: float, step: int) -> int:
    return max(step, round(amount * min(factor, 200.0)) // step * step)


def _frames(on: Operands, parts: Parts) -> Frames:
    return Frames(on, max(parts.up, parts.down))


def _overlap(wanted: Times, on: Operands, _nbytes: int) -> Runner:
    parts = find_parts(on, wanted, "frames", _frames)
    frames = _frames(on, parts)
    return Runner(lambda: frames.overlapped(parts))


def _ideal(wanted: Times, on: Operands, _nbytes: int) -> Runner:
    parts = find_parts(on, wanted, "frames", _frames)
    frames = _frames(on, parts)
    return Runner(lambda: perfect(frames.seconds(parts)), own_clock=True)


OVERLAPPING: Mapping[str, Maker] = {
    "overlap-2-5-2": partial(_overlap, (2.0, 5.0, 2.0)),
    "ideal-2-5-2": partial(_ideal, (2.0, 5.0, 2.0)),
    "overlap-3-3-3": partial(_overlap, (3.0, 3.0, 3.0)),
    "ideal-3-3-3": partial(_ideal, (3.0, 3.0, 3.0)),
}
