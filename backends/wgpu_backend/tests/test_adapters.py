"""Adapters: what selectors mean, what is found in which order, and that looking disturbs nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from forge3d_core.errors import NoDevice
from forge3d_core.protocols import DeviceInfo, DeviceKind
from forge3d_wgpu import adapters
from forge3d_wgpu.adapters import CAUTION, describe, select
from forge3d_wgpu.plugin import WgpuBackend


def info(selector: str, name: str, kind: DeviceKind = "discrete", driver: str = "Vulkan, 1") -> DeviceInfo:
    return DeviceInfo(
        "wgpu", name, kind, selector, driver, caution=CAUTION if driver.startswith("OpenGL") else ""
    )


FOUND = [
    (info("0", "H200"), "h200 vulkan"),
    (info("1", "H200", driver="D3D12, 1"), "h200 dx12"),
    (info("2", "H200"), "second h200"),
    (info("3", "Radeon 780M", "integrated"), "radeon"),
    (info("4", "llvmpipe", "cpu"), "llvmpipe"),
    (info("opengl:0", "Radeon 780M", "integrated", "OpenGL, 4.5"), "radeon gl"),
    (info("opengl:1", "llvmpipe", "cpu", "OpenGL, 4.5"), "llvmpipe gl"),
]


@pytest.mark.parametrize(
    ("selector", "adapter"),
    [
        ("", "h200 vulkan"),
        ("0", "h200 vulkan"),
        ("1", "h200 dx12"),
        ("4", "llvmpipe"),
        ("discrete", "h200 vulkan"),
        ("integrated", "radeon"),
        ("CPU", "llvmpipe"),
        ("radeon", "radeon"),
        ("vulkan", "h200 vulkan"),
        ("Vulkan:1", "second h200"),
        ("vulkan:llvmpipe", "llvmpipe"),
        ("vulkan: integrated", "radeon"),
        ("dx12", "h200 dx12"),
        ("d3d12:h200", "h200 dx12"),
        ("dx12:0", "h200 dx12"),
        ("opengl", "radeon gl"),
        ("gl:cpu", "llvmpipe gl"),
        ("gles:llvmpipe", "llvmpipe gl"),
        ("opengl:1", "llvmpipe gl"),
    ],
)
def test_selectors(selector: str, adapter: str) -> None:
    assert select(FOUND, selector)[1] == adapter


def test_each_adapter_is_what_its_own_selector_opens() -> None:
    assert [select(FOUND, info.selector)[1] for info, _ in FOUND] == [adapter for _, adapter in FOUND]


@pytest.mark.parametrize(
    "selector", ["5", "78", "virtual", "geforce", "metal", "opengl:2", "vulkan:3x", "metal:h200", "dx12:1"]
)
def test_a_selector_that_fits_nothing_names_what_there_is(selector: str) -> None:
    with pytest.raises(NoDevice, match=rf"{selector}.*0: H200.*3: Radeon 780M.*opengl:1: llvmpipe") as caught:
        select(FOUND, selector)
    assert "(discrete, D3D12, 1)" in str(caught.value)  # two of one name are told apart


@pytest.mark.parametrize("selector", ["", "0", "cpu", "llvmpipe", "vulkan", "5"])
def test_only_its_name_opens_opengl(selector: str) -> None:
    with pytest.raises(NoDevice, match=r"opengl:1: llvmpipe.*wgpu:opengl.*try: apt-get install") as caught:
        select(FOUND[5:], selector)
    assert caught.value.fix == adapters.FIX


def test_without_an_adapter_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forge3d_wgpu.plugin.list_devices", list)
    for look in (partial(select, [], ""), WgpuBackend().probe):
        with pytest.raises(NoDevice, match="mesa-vulkan-drivers") as caught:
            look()
        assert caught.value.fix == adapters.FIX


def adapter(kind: str, api: str) -> Any:
    described = {
        "adapter_type": kind,
        "backend_type": api,
        "device": kind,
        "vendor": "",
        "description": "1.2",
    }
    return SimpleNamespace(info=described)


def test_scores_prefer_discrete_and_put_opengl_behind_vulkan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "forge3d_wgpu.driver", SimpleNamespace(limits_of=lambda _adapter: None))
    order = ["DiscreteGPU", "IntegratedGPU", "Unknown", "CPU"]
    scores = [describe(adapter(kind, api), "").score for kind in order for api in ("Vulkan", "OpenGL")]
    assert scores == [300, 295, 200, 195, 100, 95, 10, 5]


THREADS = """
import threading
from forge3d_core.errors import NoDevice
from forge3d_wgpu.plugin import WgpuBackend

backend, start, failures = WgpuBackend(), threading.Barrier(6), []

def run(number):
    start.wait()
    for turn in range(4):
        try:
            backend.probe()
            device = backend.open(["", "opengl", "vulkan"][(number + turn) % 3])
        except NoDevice:  # this machine's business
            continue
        with device, device.create_buffer(64) as buffer:
            device.submit(device.command_list().fill(buffer, number)).wait(60)

def guarded(number):
    try:
        run(number)
    except BaseException as error:
        failures.append(error)

threads = [threading.Thread(target=guarded, args=(number,)) for number in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
"""


@pytest.fixture(scope="module")
def _wgpu() -> None:
    pytest.importorskip("wgpu.backends.wgpu_native", reason="wgpu-py is not installed", exc_type=Exception)


@pytest.mark.usefixtures("_wgpu")
def test_any_thread_looks_and_opens_beside_others() -> None:
    """In a process of its own, from its first look on: EGL would end it where two threads met there."""
    done = run(THREADS)
    assert done.returncode == 0, done.stderr


QUIET = """
import ctypes, os
from forge3d_core.errors import NoDevice
from forge3d_wgpu.plugin import WgpuBackend

backend = WgpuBackend()
for selector in ("", "opengl"):
    try:
        backend.probe()
        backend.open(selector).close()
    except NoDevice:
        pass
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
before = os.environ.get("XDG_RUNTIME_DIR")
assert libc.getenv(b"XDG_RUNTIME_DIR") == (before if before is None else before.encode())
os.write(2, b"and what others write is shown")
"""


@pytest.mark.usefixtures("_wgpu")
@pytest.mark.skipif(sys.platform != "linux", reason="libwayland is Linux's")
@pytest.mark.parametrize("runtime_dir", [None, "not/absolute"])
def test_a_missing_runtime_folder_is_not_complained_of(runtime_dir: str | None) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
    if runtime_dir is not None:
        environment["XDG_RUNTIME_DIR"] = runtime_dir
    done = run(QUIET, environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "and what others write is shown"


@pytest.mark.usefixtures("_wgpu")
def test_opengl_is_looked_for_once_and_natively_found_adapters_afresh() -> None:
    first, second = adapters.list_devices(), adapters.list_devices()
    assert [info for info, _ in first] == [info for info, _ in second]
    if not first:
        pytest.skip("wgpu finds no adapter on this machine")
    for (info, adapter), (_, same) in zip(first, second, strict=True):
        assert (adapter is same) == bool(info.caution)


OLD = """
from forge3d_core.errors import NoDevice
from forge3d_wgpu.plugin import WgpuBackend

backend = WgpuBackend()
try:
    found = backend.probe()
except NoDevice:  # this machine has no other adapter
    found = []
assert not any(info.caution for info in found)
try:
    backend.open("opengl")
except NoDevice:
    pass
else:
    raise AssertionError("an OpenGL without compute shaders opened")
"""


@pytest.mark.usefixtures("_wgpu")
def test_an_opengl_without_compute_shaders_is_no_device() -> None:
    """Seen on an H200, whose EGL gives OpenGL 3.3; Mesa's can be told to be as old."""
    old = {"MESA_GL_VERSION_OVERRIDE": "3.3", "MESA_GLES_VERSION_OVERRIDE": "3.0"}
    done = run(OLD, {**os.environ, **old})
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_forked_child_has_locks_of_its_own() -> None:
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with adapters.opening(), adapters.opengl_context():
            held.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    try:
        child = os.fork()
        if child == 0:
            free = not adapters.opengl_context().locked() and adapters._state.lock.acquire(timeout=10)
            os._exit(0 if free else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        leave.set()
        thread.join()


def run(script: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
