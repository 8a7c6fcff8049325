"""Fixtures: a driver on a real device, a gate that holds a lane until the host opens it, hollow drivers."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest

from forge3d_core.driver import Command, Dispatch, Download, Upload
from forge3d_core.errors import BackendError
from forge3d_core.memory.textures import TextureMemory
from forge3d_core.protocols import Binding, DeviceInfo, KernelSource, Limits, TextureFormat
from forge3d_core.units import GIB
from forge3d_cuda.current import BoundThreads
from forge3d_cuda.driver import CudaDriver
from forge3d_cuda.lanes import Lanes
from forge3d_cuda.memory import DevicePool
from forge3d_cuda.plugin import list_devices, load_cupy
from forge3d_cuda.staging import Staging

from .runtime import Array, Runtime

PATIENCE = 30.0

# Gives up after 20 s, so that no failing test leaves the device spinning.
HOLD = """
extern "C" __global__ void hold(volatile unsigned int* gate) {
    unsigned long long begin, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
    do {
        __nanosleep(1000);
        asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    } while (*gate == 0u && now - begin < 20000000000ull);
}
"""


@attrs.frozen(eq=False)
class Region:
    """A buffer as the core's commands name it."""

    native: Any
    nbytes: int


@attrs.frozen(eq=False)
class Program:
    """A kernel as the core's commands name it."""

    source: KernelSource
    language: str
    native: Any


@attrs.define(eq=False)
class Bench:
    """A driver and the shortest ways to use it."""

    driver: CudaDriver
    closed: bool = False

    def close(self, timeout: float = PATIENCE) -> None:
        if not self.closed:
            self.closed = True
            self.driver.close(timeout)

    def region(self, native: Any, nbytes: int) -> Region:
        return Region(native, nbytes)

    def finish(self, token: Any) -> None:
        assert self.driver.wait(token, PATIENCE)

    def buffer(self, nbytes: int) -> Region:
        return Region(self.driver.allocate_buffer(nbytes), nbytes)

    def image(self, width: int, height: int, format: TextureFormat) -> TextureMemory:
        native = self.driver.allocate_texture(width, height, format)
        return TextureMemory(native, native.size, width, height, format)

    def program(self, source: KernelSource) -> Program:
        return Program(source, *self.driver.compile(source))

    def run(self, *commands: Command, lane: str = "compute", after: Sequence[Any] = ()) -> None:
        token = self.driver.submit(lane, commands, after)
        self.finish(token)
        self.driver.retire(token)

    def write(self, target: Region, data: bytes, offset: int = 0) -> None:
        block = self.driver.allocate_block(len(data), "upload")
        block.view()[:] = np.frombuffer(data, np.uint8)
        self.run(Upload(block, 0, target, offset, len(data)), lane="upload")
        self.driver.free(block)

    def read(self, source: Region) -> bytes:
        block = self.driver.allocate_block(source.nbytes, "readback")
        self.run(Download(source, 0, block, 0, source.nbytes), lane="download")
        data = block.view().tobytes()
        self.driver.free(block)
        return data


@attrs.define(eq=False)
class CallGuard:
    """Holds lanes on a flag in mapped host memory until it is opened."""

    _driver: CudaDriver
    _program: Program
    _flag: Region
    _address: int

    def hold(self, lane: str) -> Any:
        command = Dispatch(self._program, (self._flag,), (), (1, 1, 1))
        return self._driver.submit(lane, [command], ())

    def open(self) -> None:
        ctypes.c_uint32.from_address(self._address).value = 1


@attrs.define(eq=False)
class Watched:
    """CuPy on a device, and what was taken from its runtime and has not been given back.

    The device's free memory would tell as well, but for the other processes that use it.
    """

    PAIRS: ClassVar = {
        "streamCreateWithFlags": "streamDestroy",
        "eventCreateWithFlags": "eventDestroy",
        "memPoolCreate": "memPoolDestroy",
        "mallocFromPoolAsync": "freeAsync",
        "hostAlloc": "freeHost",
    }

    _module: Any
    taken: set[tuple[str, int]] = attrs.field(factory=set)  # by which call, and the handle or address

    @property
    def cuda(self) -> Any:
        return self

    @property
    def runtime(self) -> Any:
        return self

    def outstanding(self, call: str) -> int:
        return sum(name == call for name, _ in self.taken)

    def __getattr__(self, name: str) -> Any:
        for place in (self._module.cuda.runtime, self._module.cuda, self._module):
            if hasattr(place, name):
                found = getattr(place, name)
                break
        else:
            raise AttributeError(name)
        if name in self.PAIRS:
            return partial(self._take, found, name)
        pairs = [taking for taking, giving in self.PAIRS.items() if giving == name]
        return partial(self._give, found, pairs[0]) if pairs else found

    def _take(self, call: Callable[..., int], name: str, *arguments: Any) -> int:
        handle = call(*arguments)
        self.taken.add((name, handle))
        return handle

    def _give(self, call: Callable[[Any], None], taking: str, handle: int, *stream: int) -> None:
        self.taken.remove((taking, handle))  # before it may be handed out to another thread
        call(handle, *stream)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def hollow(runtime: Runtime) -> Any:
    """CuPy without a device: its memory is numbers."""
    cuda = SimpleNamespace(
        runtime=runtime,
        driver=runtime,
        UnownedMemory=lambda ptr, _nbytes, owner, _index: SimpleNamespace(ptr=ptr, owner=owner),
        MemoryPointer=lambda memory, _offset: memory,
    )
    return SimpleNamespace(cuda=cuda, ndarray=Array)


@pytest.fixture
def hollow_drivers(hollow: Any, runtime: Runtime) -> Callable[[], CudaDriver]:
    """Makes drivers without a device."""
    limits = Limits(max_buffer_size=GIB)
    info = DeviceInfo("cuda", "hollow", "discrete", "0", "none", 0, limits=limits)

    def make() -> CudaDriver:
        pool = DevicePool.on(hollow, 0)
        lanes = Lanes.on(runtime, pool, limits)
        staging = Staging(runtime, 0, lambda: lanes.idle)
        native, threads = SimpleNamespace(id=0), BoundThreads(runtime, 0)
        return CudaDriver(info, native, hollow, runtime, pool, lanes, staging, limits, threads)

    return make


@pytest.fixture
def hollow_driver(hollow_drivers: Callable[[], CudaDriver]) -> CudaDriver:
    return hollow_drivers()


@pytest.fixture(scope="session")
def cupy() -> Any:
    """CuPy on a machine with a CUDA device; skips, or fails where FORGE3D_REQUIRE names cuda."""
    try:
        module = load_cupy()
        list_devices(module)
    except BackendError as error:
        if "cuda" in os.environ.get("FORGE3D_REQUIRE", ""):
            pytest.fail(f"FORGE3D_REQUIRE names cuda: {error}")
        pytest.skip(f"needs a CUDA device: {error}")
    return module


@pytest.fixture
def open_bench(cupy: Any) -> Iterator[Callable[..., Bench]]:
    """Opens drivers on the first device and closes them after the test."""
    opened: list[Bench] = []
    info: DeviceInfo = list_devices(cupy)[0]

    def open_one(module: Any = cupy) -> Bench:
        assert info.limits is not None
        bench = Bench(CudaDriver.open(module, info, info.limits))
        opened.append(bench)
        return bench

    yield open_one
    for bench in opened:
        bench.close()


@pytest.fixture
def bench(open_bench: Callable[[], Bench]) -> Bench:
    return open_bench()


@pytest.fixture
def watched(cupy: Any) -> Watched:
    return Watched(cupy)


@pytest.fixture
def make_gate(cupy: Any) -> Iterator[Callable[[Bench], CallGuard]]:
    """Makes gates for lanes, and opens them after the test."""
    runtime, gates, addresses = cupy.cuda.runtime, [], []

    def make(bench: Bench) -> CallGuard:
        # Mapped memory has one address for host and device, so an array over it is what a kernel takes.
        address = runtime.hostAlloc(4096, runtime.hostAllocMapped | runtime.hostAllocPortable)
        addresses.append(address)
        ctypes.memset(address, 0, 4096)
        memory = cupy.cuda.UnownedMemory(address, 4096, None, 0)
        flag = Region(cupy.ndarray((4096,), np.uint8, cupy.cuda.MemoryPointer(memory, 0)), 4096)
        source = KernelSource("hold", {"cuda": HOLD}, [Binding("gate", "read", "u4")], workgroup=(1, 1, 1))
        gates.append(CallGuard(bench.driver, bench.program(source), flag, address))
        return gates[-1]

    yield make
    for gate in gates:
        gate.open()
    runtime.deviceSynchronize()  # a holding kernel may still read its flag
    for address in addresses:
        runtime.freeHost(address)


@pytest.fixture
def gate(bench: Bench, make_gate: Callable[[Bench], CallGuard]) -> CallGuard:
    return make_gate(bench)
