"""What the wgpu backend lends the conformance suite; found by entry point, imports nothing of the suite."""

from __future__ import annotations

import time
from typing import Any, Self

import attrs

from forge3d_core.driver import Dispatch
from forge3d_core.errors import ForgeError
from forge3d_core.protocols import Binding, Buffer, KernelSource
from forge3d_core.units import align_up
from forge3d_wgpu.memory import create_buffer
from forge3d_wgpu.staging import WORD

GROUP = 64
ITERATIONS = 60_000  # Mesa's llvmpipe silently ends a loop after 65535
ENOUGH_TO_TIME = 0.05  # seconds
CALIBRATION_SECONDS = 30.0
MARGIN = 1.25  # a hold that lapses costs a whole attempt

BUSY = KernelSource(
    "busy",
    {
        "wgsl": f"""
@group(0) @binding(0) var<storage, read_write> sink: array<u32>;

@compute @workgroup_size({GROUP})
fn busy(@builtin(global_invocation_id) thread: vec3<u32>) {{
    var x = thread.x + thread.y;
    for (var i = 0u; i < {ITERATIONS}u; i++) {{ x = x * 1664525u + 1013904223u; }}
    if (x == 0xdeadbeefu) {{ sink[0] = x; }}
}}
"""
    },
    (Binding("sink", "readwrite", "u4"),),
    (),
    (GROUP, 1, 1),
)


def native_of(device: Any) -> Any:
    """Return the native device without making ``submit`` wait for a place in its queue from now on."""
    return device.driver._native


@attrs.frozen(eq=False)
class Sink:
    """Memory of the busy kernel's own, beside the budget and the device's ordering."""

    native: Any
    nbytes: int


@attrs.define(eq=False)
class BusyQueue:
    """The queue, kept busy by a kernel that ends by itself: WebGPU has no way to stop one."""

    bounded = True

    _driver: Any
    _token: Any
    _released: bool = False

    @property
    def held(self) -> bool:
        """Whether wgpu has yet to report the kernel's end."""
        try:
            return not self._released and not self._driver.query(self._token)
        except ForgeError:
            return False

    def release(self) -> None:
        self._released = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class WgpuSubject:
    """Holds all lanes at once, for a time; looks at memory through wgpu's own queue."""

    capabilities = frozenset({"hold", "peek", "lose", "adopt", "enqueue", "host_pressure"})
    known_failures = (
        (
            "readback.nonblocking",
            "llvmpipe",
            "^OpenGL",
            "a call that must not wait for the device did not return",
            "a pool that has to grow waits for the one OpenGL context (decision 12)",
        ),
        (
            "device.adopt*",
            "llvmpipe",
            "^OpenGL",
            "over OpenGL adopts no memory|over OpenGL, which forge3d does not adopt",
            "its owner's calls would meet ours in the one OpenGL context (decision 12)",
        ),
    )

    def __init__(self) -> None:
        self._groups_per_second: dict[str, float] = {}

    def hold(self, device: Any, lane: str, seconds: float) -> BusyQueue:
        if device.info.name not in self._groups_per_second:
            self._groups_per_second[device.info.name] = self._calibrate(device)
        groups = self._groups_per_second[device.info.name] * seconds * MARGIN
        return BusyQueue(device.driver, self._submit(device, lane, max(1, int(groups))))

    def peek(self, device: Any, buffer: Buffer, offset: int, nbytes: int) -> bytes:
        """WebGPU reads only through its queue: this waits for what was submitted before."""
        lead = offset % WORD
        size = align_up(lead + nbytes, WORD)
        data = native_of(device).queue.read_buffer(buffer.native, offset - lead, size)
        return bytes(data[lead : lead + nbytes])

    def poke(self, device: Any, buffer: Buffer, offset: int, data: bytes) -> None:
        lead = offset % WORD
        size = align_up(lead + len(data), WORD)
        whole = bytearray(native_of(device).queue.read_buffer(buffer.native, offset - lead, size))
        whole[lead : lead + len(data)] = data
        native_of(device).queue.write_buffer(buffer.native, offset - lead, whole)

    def lose(self, device: Any) -> None:
        native_of(device).destroy()

    def foreign(self, device: Any, nbytes: int) -> Any:
        import wgpu

        usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
        return native_of(device).create_buffer(size=nbytes, usage=usage)

    def enqueue(self, device: Any, buffer: Buffer, value: int) -> None:
        native_of(device).queue.write_buffer(buffer.native, 0, bytes([value]) * buffer.nbytes)

    def fail_next_allocation(self, device: Any) -> None:
        """Have wgpu's device refuse one buffer as it does when memory has run out."""
        import wgpu

        native = native_of(device)

        def refuse(**_descriptor: Any) -> Any:
            del native.create_buffer
            raise wgpu.GPUOutOfMemoryError("refused for the conformance suite")

        native.create_buffer = refuse

    def memory_in_use(self) -> int:
        """Return the bytes of the buffers and textures that wgpu knows of, on all devices."""
        import wgpu

        counts = wgpu.diagnostics.object_counts.get_dict()
        return int(counts["total"]["resource_mem"])

    def _calibrate(self, device: Any) -> float:
        """Return how many groups of the busy kernel this adapter runs in a second."""
        self._seconds(device, 1)  # the first run of a kernel compiles it
        groups = 16
        while (elapsed := self._seconds(device, groups)) < ENOUGH_TO_TIME:
            groups *= 2
        return groups / elapsed

    def _seconds(self, device: Any, groups: int) -> float:
        started = time.perf_counter()
        device.driver.wait(self._submit(device, "compute", groups), CALIBRATION_SECONDS)
        return time.perf_counter() - started

    def _submit(self, device: Any, lane: str, groups: int) -> Any:
        # Kept by nobody: who keeps a kernel, or anything else of a device, keeps the device.
        kernel, sink = device.create_kernel(BUSY), Sink(create_buffer(native_of(device), WORD), WORD)
        across = min(groups, device.limits.max_groups[0])
        threads = (across * GROUP, -(-groups // across), 1)
        return device.driver.submit(lane, [Dispatch(kernel, (sink,), (), threads)], ())
