"""Discovery: nothing is imported early, nothing is opened by looking, nothing else is opened instead."""

from __future__ import annotations

import re
import subprocess
import sys

import attrs
import pytest

from forge3d_core.errors import MissingDependency, NoDevice, UsageError
from forge3d_core.protocols import Backend
from forge3d_wgpu import plugin
from forge3d_wgpu.plugin import WgpuBackend


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


def test_probe_lists_adapters_best_first_and_opengl_with_a_caution(backend: WgpuBackend) -> None:
    found = backend.probe()
    free = [device for device in found if not device.caution]
    assert found[: len(free)] == free
    assert [device.selector for device in free] == [str(i) for i in range(len(free))]
    assert [device.score for device in free] == sorted((device.score for device in free), reverse=True)
    for device in found:
        assert device.backend == "wgpu"
        assert device.limits is not None
        assert device.limits.languages == ("wgsl",)
        assert ("OpenGL" in device.driver) == bool(device.caution)
        assert device.selector.startswith("opengl:") == bool(device.caution)


def test_every_probed_selector_opens_exactly_its_device(backend: WgpuBackend) -> None:
    for there in backend.probe():
        with backend.open(there.selector) as device:
            assert attrs.evolve(device.info, limits=there.limits) == there


def test_open_says_what_there_is_when_nothing_fits(backend: WgpuBackend) -> None:
    with pytest.raises(NoDevice, match=re.escape(backend.probe()[0].name)):
        backend.open("no such adapter")


def test_adopt_takes_only_a_wgpu_device(backend: WgpuBackend) -> None:
    with pytest.raises(UsageError, match="GPUDevice"):
        backend.adopt(object())
