"""A driver on a real adapter, with the few things that the core would put around it."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray

from forge3d_core.driver import Command, Dispatch, Download, Fill, Upload
from forge3d_core.errors import BackendError
from forge3d_core.memory.textures import TextureMemory
from forge3d_core.protocols import Binding, KernelSource, Param, TextureFormat
from forge3d_wgpu.plugin import WgpuBackend

PATIENCE = 60.0  # seconds; only a failing test waits that long

SPIN = """
struct Params { rounds: u32 }
@group(0) @binding(0) var<storage, read_write> out: array<u32>;
@group(0) @binding(1) var<uniform> p: Params;
@compute @workgroup_size(64)
fn spin(@builtin(global_invocation_id) id: vec3<u32>) {
    var x = id.x;
    for (var i = 0u; i < p.rounds; i++) { x = x * 1664525u + 1013904223u; }
    out[id.x % 64u] = x;
}
"""


ADD = """
struct Params { n: u32, step: u32 }
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@group(0) @binding(1) var<uniform> p: Params;
@compute @workgroup_size(64)
fn add(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < p.n) { data[id.x] = data[id.x] * 3u + p.step; }
}
"""


@attrs.frozen(eq=False)
class Memory:
    native: Any
    nbytes: int


@attrs.frozen(eq=False)
class Compiled:
    source: KernelSource
    language: str
    native: Any


@attrs.frozen(eq=False)
class Commands:
    """One list of each kind, over memory of one rig."""

    lists: dict[str, list[Command]]
    add: Callable[[int], Dispatch]
    data: Any


@attrs.define(eq=False)
class Rig:
    """One driver, and bytes in and out of it."""

    driver: Any
    closed: bool = False

    def buffer(self, nbytes: int) -> Memory:
        return Memory(self.driver.allocate_buffer(nbytes), nbytes)

    def image(self, width: int, height: int, format: TextureFormat) -> TextureMemory:
        native = self.driver.allocate_texture(width, height, format)
        return TextureMemory(native, width * height * format.block_bytes, width, height, format)

    def block(self, data: Any) -> Any:
        array = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        block = self.driver.allocate_block(array.nbytes, "upload")
        block.view()[:] = array
        return block

    def kernel(self, name: str, code: str, *arguments: Binding | Param) -> Compiled:
        bindings = tuple(a for a in arguments if isinstance(a, Binding))
        params = tuple(a for a in arguments if isinstance(a, Param))
        source = KernelSource(name, {"wgsl": code}, bindings, params)
        return Compiled(source, *self.driver.compile(source))

    def submit(self, *commands: Command, lane: str = "compute") -> Any:
        return self.driver.submit(lane, commands, ())

    def finish(self, token: Any) -> None:
        assert self.driver.wait(token, PATIENCE)
        self.driver.retire(token)

    def run(self, *commands: Command) -> None:
        self.finish(self.submit(*commands))

    def write(self, target: Memory, data: Any, offset: int = 0) -> None:
        block = self.block(data)
        self.run(Upload(block, 0, target, offset, block.nbytes))
        self.driver.free(block)

    def read(self, source: Memory) -> NDArray[np.uint8]:
        block = self.driver.allocate_block(source.nbytes + 3, "readback")
        self.run(Download(source, 0, block, 0, source.nbytes))
        result: NDArray[np.uint8] = block.view()[: source.nbytes].copy()
        self.driver.free(block)
        return result

    def long_work(self) -> Dispatch:
        """Return work of several tenths of a second on any adapter."""
        kernel = self.kernel("spin", SPIN, Binding("out", "readwrite", "u4"), Param("rounds"))
        # Mesa's llvmpipe ends a shader's loops after 65,535 rounds in all; a GPU runs one group serially.
        rounds, groups = (60_000, 500) if self.driver.info.kind == "cpu" else (60_000_000, 1)
        return Dispatch(kernel, (self.buffer(256),), (rounds,), (64 * groups, 1, 1))

    def commands(self) -> Commands:
        """Return commands of several kinds over one buffer."""
        data = self.buffer(4096)
        kernel = self.kernel("add", ADD, Binding("data", "readwrite", "u4"), Param("n"), Param("step"))

        def add(step: int) -> Dispatch:
            return Dispatch(kernel, (data,), (16, step), (16, 1, 1))

        lists: dict[str, list[Command]] = {
            "nothing": [],
            "clear": [Fill(data, 0, 4096, 0)],
            "fill": [Fill(data, 0, 4, 3)],
            "dispatch": [add(1)],
            "256 dispatches": [add(1)] * 256,
            "upload": [Upload(self.block(np.ones(4096, np.uint8)), 0, data, 0, 4096)],
            "download": [Download(data, 0, self.driver.allocate_block(4096, "readback"), 0, 4096)],
        }
        return Commands(lists, add, data)

    def close(self, timeout: float = PATIENCE) -> None:
        if not self.closed:
            self.closed = self.driver.close(timeout)


@pytest.fixture(scope="session")
def backend() -> WgpuBackend:
    """The backend where a bare ``wgpu`` opens; where it does not, it fails if it is required."""
    backend = WgpuBackend()
    try:
        backend.open().close()
        reason = ""
    except BackendError as error:
        reason = str(error)
    if reason and "wgpu" in os.environ.get("FORGE3D_REQUIRE", ""):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    return backend


def open_rig(selector: str = "") -> Rig:
    from forge3d_wgpu.adapters import find
    from forge3d_wgpu.plugin import make_driver

    info, adapter = find(selector)
    return Rig(make_driver(adapter.request_device_sync(), info, True))


@pytest.fixture
def make_rig() -> Callable[..., Rig]:
    """Return a function that opens the adapter of a selector."""
    return open_rig


@pytest.fixture
def rigs(backend: WgpuBackend) -> Callable[[], Rig]:
    return open_rig


@pytest.fixture
def rig(rigs: Callable[[], Rig]) -> Iterator[Rig]:
    rig = rigs()
    yield rig
    rig.close()


@pytest.fixture
def spin() -> str:
    """WGSL that keeps the device busy for ``rounds``."""
    return SPIN


class Counting:
    """wgpu-native's library, with its calls counted by name."""

    def __init__(self, real: Any, counts: Counter[str]) -> None:
        self._real, self._counts = real, counts

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if not name.startswith("wgpu"):
            return real

        def call(*arguments: Any) -> Any:
            self._counts[name] += 1
            return real(*arguments)

        setattr(self, name, call)
        return call


@pytest.fixture
def native_calls(backend: WgpuBackend, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the native calls of all that is opened afterwards, those through wgpu-py's objects as well."""
    from wgpu.backends.wgpu_native import _api, lib

    counts: Counter[str] = Counter()
    counted, safe = Counting(lib, counts), Counting(_api.libf, counts)
    for name, module in list(sys.modules.items()):
        if name.startswith("forge3d_wgpu.") or module is _api:
            for attribute, replaced in (("lib", counted), ("libf", safe)):
                if hasattr(module, attribute):
                    monkeypatch.setattr(module, attribute, replaced)
    for kind in vars(_api).values():
        release = vars(kind).get("_release_function") if isinstance(kind, type) else None
        if release is not None:
            monkeypatch.setattr(kind, "_release_function", getattr(safe, release.__name__))
    return counts


@pytest.fixture
def counted(native_calls: Counter[str], rigs: Callable[[], Rig]) -> Iterator[Rig]:
    """Return a rig whose native calls are counted."""
    rig = rigs()
    yield rig
    rig.close()


def count_python_calls(operation: Callable[[], Any]) -> tuple[Any, int]:
    """Return what ``operation`` returns, and how many Python functions it enters."""
    calls = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        result = operation()
    finally:
        sys.setprofile(before)
    return result, calls


@pytest.fixture
def python_calls() -> Callable[[Callable[[], Any]], tuple[Any, int]]:
    return count_python_calls
