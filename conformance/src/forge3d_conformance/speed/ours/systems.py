"""Frames through a stream, a coordinator and a stage manager, beside what the same parts allow.

As in :mod:`~forge3d_conformance.speed.ours.overlapping`, with the systems above lanes, rings and pools:
arrays in host memory of the device go up by ``upload``, a kernel makes a result of each, and reads take it
to such an array. The buffers are made before the clock starts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.speed.contestant import Runner
from forge3d_conformance.speed.ours.operands import Maker, Operands
from forge3d_conformance.speed.ours.overlapping import (
    AHEAD,
    FRAMES,
    Parts,
    Times,
    find_parts,
    median_seconds,
    perfect,
)
from forge3d_core.pipeline import (
    AsyncCoordinator,
    GpuPipelineStage,
    LaunchConfig,
    PipelineStageManager,
    stream,
)
from forge3d_core.protocols import (
    AsyncReadbackConfig,
    Binding,
    Buffer,
    CommandList,
    HostArrayDevice,
    KernelSource,
    Param,
    ReadbackPool,
)

Bytes = NDArray[np.uint8]
GROUP = 64
RING_BYTES = 1 << 20


def _sleep(
    _threads: tuple[int, int, int], _source: NDArray[np.uint32], _target: NDArray[np.uint32], turns: int
) -> None:
    time.sleep(turns * 1e-9)


SPIN_TO = KernelSource(
    name="spin_to",
    sources={
        "host": _sleep,
        "wgsl": """
@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> target_: array<u32>;
@group(0) @binding(2) var<uniform> turns: u32;
@compute @workgroup_size(64)
fn spin_to(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x > 0u) { return; }
    var word = source[0];
    for (var turn = 0u; turn < turns; turn = turn + 1u) { word = word * 1664525u + 1013904223u; }
    target_[0] = word;
}
""",
        "cuda": """
extern "C" __global__ void spin_to(const unsigned int* source, unsigned int* target, unsigned int turns) {
    if (blockIdx.x * blockDim.x + threadIdx.x > 0) return;
    unsigned int word = source[0];
    for (unsigned int turn = 0; turn < turns; ++turn) word = word * 1664525u + 1013904223u;
    target[0] = word;
}
""",
    },
    bindings=(Binding("source", "read", "u4"), Binding("target", "write", "u4")),
    params=(Param("turns"),),
)
"""Takes as long as it is told, and orders a frame before its result."""


class Systems:
    """Frames and arrays for their results, in the device's host memory where it gives out any."""

    def __init__(self, on: Operands, parts: Parts) -> None:
        self.parts = parts
        self._on, self._device = on, on.device
        self._kernel = self._device.create_kernel(SPIN_TO)
        self._frame, *self._results = (
            self._array(nbytes) for nbytes in (parts.up, *[parts.down] * (AHEAD + 1))
        )

    def seconds(self, parts: Parts) -> Times:
        """Return how long each part takes alone."""
        source, target = self._pairs(1)[0]
        ring, pool = self._on.ring(3, RING_BYTES), self._pool()
        commands = self._device.command_list
        return (
            median_seconds(self._device, lambda: ring.upload(self._frame, source).wait()),
            median_seconds(
                self._device,
                lambda: self._device.submit(
                    commands().dispatch(self._kernel, [source, target], [parts.turns], threads=GROUP)
                ).wait(),
            ),
            median_seconds(self._device, lambda: pool.read(target, out=self._results[0]).wait()),
        )

    def stream(self) -> Callable[[], float]:
        def record(commands: CommandList, source: Buffer, target: Buffer, _index: int) -> None:
            commands.dispatch(self._kernel, [source, target], [self.parts.turns], threads=GROUP)

        def run() -> float:
            start = 0.0

            def frames() -> Iterator[Bytes]:
                nonlocal start
                yield self._frame  # the stream makes its buffers for it
                self._device.wait_idle()
                start = time.perf_counter()
                for _ in range(FRAMES):
                    yield self._frame

            shape = ("u1", (self.parts.down,))
            with stream(
                self._device, frames(), record, depth=AHEAD, result=shape, into=self._result
            ) as results:
                for _ in results:
                    pass
                return time.perf_counter() - start

        return run

    def coordinator(self) -> Callable[[], float]:
        coordinator, pairs = self._coordinator(), self._pairs(AHEAD)

        def run() -> float:
            coming: deque[int] = deque()
            start = time.perf_counter()
            for number in range(FRAMES):
                if len(coming) == AHEAD:
                    coordinator.wait(coming.popleft())
                source, target = pairs[number % AHEAD]
                coordinator.queue_upload(self._frame, source)
                coordinator.queue_compute(
                    self._kernel, buffers=[source, target], params=[self.parts.turns], threads=GROUP
                )
                coming.append(coordinator.queue_download(target, self._result(number)))
            coordinator.synchronize_all()
            seconds = time.perf_counter() - start
            coordinator.poll()
            return seconds

        return run

    def stages(self) -> Callable[[], float]:
        manager = self._on.stack.enter_context(PipelineStageManager(self._coordinator(), depth=AHEAD))
        source, target = manager.add_buffer(self.parts.up), manager.add_buffer(self.parts.down)
        order = (
            GpuPipelineStage.upload("up", lambda _number: self._frame, source),
            GpuPipelineStage(
                "spin", self._kernel, (source,), (target,), LaunchConfig(), params=(self.parts.turns,)
            ),
            GpuPipelineStage.download("down", target, lambda _number, _array: None, into=self._result),
        )
        manager.set_order([manager.add_stage(stage) for stage in order])
        for _ in range(AHEAD):  # each makes its buffers
            manager.execute_iteration()
        manager.synchronize()

        def run() -> float:
            start = time.perf_counter()
            for _ in range(FRAMES):
                manager.execute_iteration()
            manager.synchronize()
            return time.perf_counter() - start

        return run

    def _array(self, nbytes: int) -> Bytes:
        if isinstance(self._device, HostArrayDevice):
            return self._device.host_array(nbytes)
        return np.ones(nbytes, np.uint8)

    def _result(self, number: int) -> Bytes:
        return self._results[number % len(self._results)]

    def _pairs(self, count: int) -> list[tuple[Buffer, Buffer]]:
        return [(self._on.buffer(self.parts.up), self._on.buffer(self.parts.down)) for _ in range(count)]

    def _pool(self) -> ReadbackPool:
        """Return a pool whose blocks are small: results go to arrays of the device's."""
        config = AsyncReadbackConfig(max_pending_ops=AHEAD, buffer_size=RING_BYTES, pre_allocate=False)
        return self._on.stack.enter_context(self._device.readback_pool(config))

    def _coordinator(self) -> AsyncCoordinator:
        ring = self._on.ring(3, RING_BYTES)
        return self._on.stack.enter_context(AsyncCoordinator(self._device, ring=ring, pool=self._pool()))


def _system(name: str, wanted: Times, on: Operands, _nbytes: int) -> Runner:
    systems = Systems(on, find_parts(on, wanted, "systems", Systems))
    if name == "parts":
        return Runner(lambda: perfect(systems.seconds(systems.parts)), own_clock=True)
    run: Callable[[], float] = getattr(systems, name)()
    return Runner(run, own_clock=True)


SYSTEMS: Mapping[str, Maker] = {
    f"{name}-{'-'.join(f'{each:g}' for each in wanted)}": partial(_system, name, wanted)
    for name in ("stream", "coordinator", "stages", "parts")
    for wanted in ((2.0, 5.0, 2.0), (3.0, 3.0, 3.0))
}
