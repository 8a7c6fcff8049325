"""The plugin: names the backend, lists adapters, opens one. Importing it imports no GPU library."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import attrs

from forge3d_core.device import assemble
from forge3d_core.driver import Driver
from forge3d_core.errors import NoDevice, UsageError
from forge3d_core.hookspecs import API, hookimpl
from forge3d_core.protocols import ApiRange, Backend, Device, DeviceInfo, DeviceOptions
from forge3d_wgpu.adapters import (
    NAME,
    describe,
    find,
    list_devices,
    load_wgpu,
    nothing_fits,
    opengl_context,
    opening,
)

WANTED_FEATURES = (
    "shader-f16",
    "float32-filterable",
    "texture-format16bit-norm",
    "texture-compression-bc",
    "texture-compression-etc2",
    "texture-compression-astc",
    "depth32float-stencil8",
)
"""Asked for where the adapter has them."""


@attrs.frozen
class WgpuBackend:
    """Adapters of this machine, through wgpu-py.

    A selector is empty (the best adapter), the number of an adapter as ``probe`` lists them, a kind
    (``discrete``, ``integrated``, ``virtual``, ``cpu``) or part of an adapter's name (``llvmpipe``,
    ``h200``), in any case; or an API (``vulkan``, ``metal``, ``dx12``, ``opengl``), alone or before any of
    those: ``vulkan:llvmpipe``, ``dx12:1``. Only a selector that begins with ``opengl`` opens OpenGL.
    """

    name: str = NAME
    api: ApiRange = API

    def probe(self) -> Sequence[DeviceInfo]:
        found = list_devices()
        if not found:
            raise nothing_fits(found, "")  # which says what to install
        return [info for info, _ in found]

    def open(self, selector: str = "", options: DeviceOptions | None = None) -> Device:
        with opening():
            info, adapter = find(selector)
        options = options or DeviceOptions()
        features, limits = wanted(adapter, options)
        with opengl_context() if info.caution else opening():
            try:
                # wgpu-py asks for all of the adapter's limits unless told otherwise.
                native = adapter.request_device_sync(
                    label="forge3d", required_features=features, required_limits=limits
                )
            except (RuntimeError, load_wgpu().GPUError) as error:
                which = f"{NAME}:{info.selector} ({info.name}, {info.driver})"
                raise NoDevice(f"{which} is there and does not open: {error}", backend=NAME) from error
        return _assemble(native, info, True, options)

    def adopt(self, native: Any, options: DeviceOptions | None = None) -> Device:
        if not isinstance(native, load_wgpu().GPUDevice):
            raise UsageError(f"the wgpu backend adopts a wgpu.GPUDevice, not a {type(native).__name__}")
        info = describe(native.adapter, "")
        if info.caution:
            raise UsageError(
                f"{info.name} is a device over OpenGL, which forge3d does not adopt: its owner's calls and "
                "ours would meet in one context; use a Vulkan, Metal or Direct3D 12 adapter"
            )
        return _assemble(native, info, False, options)


def wanted(adapter: Any, options: DeviceOptions) -> tuple[list[str], dict[str, int]]:
    """Return the features and limits to ask an adapter for; raises :class:`NoDevice` for what it lacks."""
    asked = [name.replace("_", "-") for name in options.features]
    lacking = [name for name in asked if name not in adapter.features]
    limits = {name.replace("_", "-"): number for name, number in options.limits.items()}
    unknown = [name for name in limits if name not in adapter.limits]
    if lacking or unknown:
        what = f"feature {', '.join(lacking)}" if lacking else f"limit {', '.join(unknown)}"
        there = ", ".join(sorted(adapter.features if lacking else adapter.limits))
        raise NoDevice(f"this adapter has no {what}; it has {there}", backend=NAME)
    offered = [feature for feature in WANTED_FEATURES if feature in adapter.features]
    return list(dict.fromkeys((*offered, *asked))), limits


@hookimpl
def forge3d_backend() -> Backend:
    return WgpuBackend()


def make_driver(native: Any, info: DeviceInfo, owned: bool) -> Driver:
    """Return the driver of a native device."""
    room, name = ("opengl", "OpenGlDriver") if info.caution else ("driver", "WgpuDriver")
    driver: Driver = getattr(import_module(f"forge3d_wgpu.{room}"), name)(native, info, owned)
    return driver


def _assemble(native: Any, info: DeviceInfo, owned: bool, options: DeviceOptions | None) -> Device:
    return assemble(make_driver(native, info, owned), options or DeviceOptions())
