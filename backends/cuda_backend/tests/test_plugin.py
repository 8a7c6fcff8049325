"""The plugin on any machine: what it imports, what it says, what a selector may be."""

from __future__ import annotations

import subprocess
import sys

import pytest

from forge3d_core.errors import MissingDependency, NoDevice, UsageError
from forge3d_core.hookspecs import API
from forge3d_core.protocols import Backend, DeviceInfo
from forge3d_cuda.plugin import CudaBackend, forge3d_backend, list_devices, load_cupy, select

H200 = DeviceInfo("cuda", "NVIDIA H200", "discrete", "0")
A100 = DeviceInfo("cuda", "NVIDIA A100-SXM4-80GB", "discrete", "1")


def test_importing_the_plugin_imports_no_gpu_library() -> None:
    code = (
        "import sys, forge3d_cuda.plugin as plugin; plugin.forge3d_backend(); "
        "print(*(m for m in sys.modules if m.split('.')[0].startswith(('cupy', 'cuda'))))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "", "")


def test_the_hook_returns_the_backend() -> None:
    backend = forge3d_backend()
    assert isinstance(backend, Backend)
    assert (backend.name, backend.api) == ("cuda", API)


def test_without_cupy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # how Python itself marks a module as not to be had
    with pytest.raises(MissingDependency, match="cupy-cuda12x") as caught:
        CudaBackend().probe()
    assert caught.value.fix == "pip install cupy-cuda13x"
    assert caught.value.backend == "cuda"


def _has_device() -> bool:
    try:
        return bool(list_devices(load_cupy()))
    except (MissingDependency, NoDevice):
        return False


@pytest.mark.parametrize("use", [lambda b: b.probe(), lambda b: b.open(), lambda b: b.adopt(0)])
def test_without_a_device_it_says_why(use: object) -> None:
    pytest.importorskip("cupy", reason="CuPy is not installed")
    if _has_device():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(NoDevice, match=r"driver|nvidia-smi"):
        use(CudaBackend())  # type: ignore[operator]


@pytest.mark.parametrize(
    ("selector", "index"),
    [
        ("", "0"),
        (" ", "0"),
        ("0", "0"),
        ("1", "1"),
        ("h200", "0"),
        ("A100", "1"),
        ("nvidia", "0"),
    ],
)
def test_selector(selector: str, index: str) -> None:
    assert select([H200, A100], selector).selector == index


@pytest.mark.parametrize("selector", ["2", "-1", "h100", "0,1", "01", "00", "0" * 400, "9" * 5000])
def test_a_selector_that_fits_nothing_names_what_there_is(selector: str) -> None:
    with pytest.raises(NoDevice, match="0 \\(NVIDIA H200\\), 1 \\(NVIDIA A100"):
        select([H200, A100], selector)


@pytest.mark.parametrize("native", [True, "0", None, 1.0, object()])
def test_adopt_refuses_what_is_no_device(native: object) -> None:
    with pytest.raises(UsageError, match=r"torch\.device"):
        CudaBackend().adopt(native)


def test_probe_opens_no_context(cupy: object) -> None:
    code = (
        "import forge3d_cuda.plugin as p; devices = p.CudaBackend().probe(); "
        "from cupy_backends.cuda.api import driver; "
        "assert devices and devices[0].limits.languages == ('cuda',), devices; "
        "assert driver.ctxGetCurrent() == 0; print(devices[0])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
