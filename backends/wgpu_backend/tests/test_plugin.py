"""Discovery: nothing is imported early, nothing is opened by looking, nothing else is opened instead."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from forge3d_core.errors import MissingDependency, NoDevice, UsageError
from forge3d_core.protocols import Backend, DeviceInfo, DeviceKind
from forge3d_wgpu import plugin
from forge3d_wgpu.plugin import WgpuBackend, describe, select


def info(selector: str, name: str, kind: DeviceKind = "discrete") -> DeviceInfo:
    return DeviceInfo("wgpu", name, kind, selector)


FOUND = [
    (info("0", "H200"), "a"),
    (info("1", "Radeon 780M", "integrated"), "b"),
    (info("2", "llvmpipe", "cpu"), "c"),
]


def test_importing_the_plugin_imports_no_gpu_library() -> None:
    code = "import sys, forge3d_wgpu.plugin as p; p.forge3d_backend(); sys.exit('wgpu' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_hook_returns_a_backend() -> None:
    backend = plugin.forge3d_backend()
    assert isinstance(backend, Backend)
    assert backend.name == "wgpu"


@pytest.mark.parametrize("module", ["wgpu", "wgpu.backends.wgpu_native"])
def test_a_missing_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match="pip install wgpu") as caught:
        WgpuBackend().probe()
    assert caught.value.fix == "pip install wgpu"
    assert caught.value.backend == "wgpu"


@pytest.mark.parametrize(
    ("selector", "adapter"),
    [
        ("", "a"),
        ("0", "a"),
        ("2", "c"),
        ("discrete", "a"),
        ("integrated", "b"),
        ("CPU", "c"),
        ("radeon", "b"),
    ],
)
def test_selectors(selector: str, adapter: str) -> None:
    assert select(FOUND, selector)[1] == adapter


@pytest.mark.parametrize("selector", ["3", "78", "virtual", "geforce"])
def test_a_selector_that_fits_nothing_names_what_there_is(selector: str) -> None:
    with pytest.raises(NoDevice, match=rf"{selector}.*0: H200.*1: Radeon 780M.*2: llvmpipe"):
        select(FOUND, selector)


def test_without_an_adapter_the_error_says_what_to_install() -> None:
    with pytest.raises(NoDevice, match="mesa-vulkan-drivers") as caught:
        select([], "")
    assert caught.value.fix


def adapter(kind: str, api: str, limits: Any) -> Any:
    described = {
        "adapter_type": kind,
        "backend_type": api,
        "device": kind,
        "vendor": "",
        "description": "1.2",
    }
    return SimpleNamespace(info=described, limits=limits)


def test_scores_prefer_discrete_and_put_opengl_behind_vulkan(backend: WgpuBackend) -> None:
    limits = plugin.find_adapters()[0][1].limits
    order = ["DiscreteGPU", "IntegratedGPU", "Unknown", "CPU"]
    scores = [
        describe(adapter(kind, api, limits), "").score for kind in order for api in ("Vulkan", "OpenGL")
    ]
    assert scores == [300, 295, 200, 195, 100, 95, 10, 5]


def test_probe_lists_adapters_best_first(backend: WgpuBackend) -> None:
    found = backend.probe()
    assert [device.selector for device in found] == [str(i) for i in range(len(found))]
    assert [device.score for device in found] == sorted((device.score for device in found), reverse=True)
    for device in found:
        assert device.backend == "wgpu"
        assert device.limits is not None
        assert device.limits.languages == ("wgsl",)


def test_open_says_what_there_is_when_nothing_fits(backend: WgpuBackend) -> None:
    with pytest.raises(NoDevice, match=re.escape(backend.probe()[0].name)):
        backend.open("no such adapter")


def test_adopt_takes_only_a_wgpu_device(backend: WgpuBackend) -> None:
    with pytest.raises(UsageError, match="GPUDevice"):
        backend.adopt(object())
