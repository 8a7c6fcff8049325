"""The plugin: names the backend, lists adapters, opens one. Importing it imports no GPU library."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import attrs

from forge3d_core.device import assemble
from forge3d_core.errors import MissingDependency, NoDevice, UsageError
from forge3d_core.hookspecs import API, hookimpl
from forge3d_core.protocols import ApiRange, Backend, Device, DeviceInfo, DeviceKind, DeviceOptions

NAME = "wgpu"

KINDS: dict[str, DeviceKind] = {
    "DiscreteGPU": "discrete",
    "IntegratedGPU": "integrated",
    "CPU": "cpu",
}
SCORES: dict[DeviceKind, int] = {"discrete": 300, "integrated": 200, "virtual": 100, "cpu": 10}
"""What automatic choice compares; the host backend scores 1 and CUDA 400."""

OPENGL_PENALTY = 5
"""OpenGL comes after the same adapter's Vulkan, Metal or Direct3D 12."""

WANTED_FEATURES = ("shader-f16", "texture-format16bit-norm", "float32-filterable")
"""Asked for where the adapter has them."""


@attrs.frozen
class WgpuBackend:
    """Adapters of this machine, through wgpu-py.

    A selector is empty (the best adapter), the number of an adapter as ``probe`` lists them, a kind
    (``discrete``, ``integrated``, ``virtual``, ``cpu``) or part of an adapter's name
    (``llvmpipe``, ``h200``), in any case.
    """

    name: str = NAME
    api: ApiRange = API

    def probe(self) -> Sequence[DeviceInfo]:
        return [info for info, _ in find_adapters()]

    def open(self, selector: str = "", options: DeviceOptions | None = None) -> Device:
        info, adapter = select(find_adapters(), selector)
        features = [feature for feature in WANTED_FEATURES if feature in adapter.features]
        try:
            # wgpu-py asks for all of the adapter's limits unless told otherwise.
            native = adapter.request_device_sync(label="forge3d", required_features=features)
        except (RuntimeError, load_wgpu().GPUError) as error:
            raise NoDevice(f"{info.name} is there and does not open: {error}", backend=NAME) from error
        return _assemble(native, info, True, options)

    def adopt(self, native: Any, options: DeviceOptions | None = None) -> Device:
        if not isinstance(native, load_wgpu().GPUDevice):
            raise UsageError(f"the wgpu backend adopts a wgpu.GPUDevice, not a {type(native).__name__}")
        return _assemble(native, describe(native.adapter, ""), False, options)


@hookimpl
def forge3d_backend() -> Backend:
    return WgpuBackend()


def describe(adapter: Any, selector: str) -> DeviceInfo:
    """Return what a probe tells of an adapter."""
    limits_of = import_module("forge3d_wgpu.driver").limits_of  # imports wgpu, so not before a probe
    kind = KINDS.get(adapter.info["adapter_type"], "virtual")
    api = adapter.info["backend_type"]
    return DeviceInfo(
        backend=NAME,
        name=adapter.info["device"] or adapter.info["vendor"] or "unnamed adapter",
        kind=kind,
        selector=selector,
        driver=f"{api}, {adapter.info['description']}".rstrip(", "),
        score=SCORES[kind] - (OPENGL_PENALTY if "OpenGL" in api else 0),
        limits=limits_of(adapter),
    )


def select(adapters: Sequence[tuple[DeviceInfo, Any]], selector: str) -> tuple[DeviceInfo, Any]:
    """Return the first adapter that ``selector`` fits, or raise :class:`NoDevice` naming what there is."""
    wanted = selector.strip().lower()
    for info, adapter in adapters:
        if wanted in ("", info.selector, info.kind) or (
            not wanted.isdecimal() and wanted in info.name.lower()
        ):
            return info, adapter
    there = "; ".join(f"{info.selector}: {info.name} ({info.kind}, {info.driver})" for info, _ in adapters)
    raise NoDevice(
        f"no wgpu adapter fits {selector!r}; there is {there}"
        if there
        else "wgpu finds no adapter here; install a Vulkan driver (for a CPU: mesa-vulkan-drivers)",
        backend=NAME,
        fix=None if there else "apt-get install mesa-vulkan-drivers",
    )


def find_adapters() -> list[tuple[DeviceInfo, Any]]:
    """Enumerate adapters, best first; opens nothing."""
    found = load_wgpu().gpu.enumerate_adapters_sync()
    ranked = sorted(((describe(adapter, ""), adapter) for adapter in found), key=lambda pair: -pair[0].score)
    return [(attrs.evolve(info, selector=str(i)), adapter) for i, (info, adapter) in enumerate(ranked)]


def _assemble(native: Any, info: DeviceInfo, owned: bool, options: DeviceOptions | None) -> Device:
    driver = import_module("forge3d_wgpu.driver").WgpuDriver(native, info, owned)
    return assemble(driver, options or DeviceOptions())


def load_wgpu() -> Any:
    try:
        wgpu = import_module("wgpu")
        import_module("wgpu.backends.wgpu_native")
    except Exception as error:  # wgpu-py raises RuntimeError or OSError when its shared library is missing
        raise MissingDependency(
            f"the wgpu backend needs wgpu-py, which does not import: {error}; pip install wgpu",
            backend=NAME,
            fix="pip install wgpu",
        ) from error
    return wgpu
