"""The plugin: names the backend, lists the devices, opens one. CuPy is imported when a device is probed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from forge3d_core.device import assemble
from forge3d_core.errors import MissingDependency, NoDevice, UsageError
from forge3d_core.formats import FORMATS
from forge3d_core.hookspecs import API, hookimpl
from forge3d_core.protocols import ApiRange, Backend, Device, DeviceInfo, DeviceOptions, Limits
from forge3d_cuda.driver import CudaDriver
from forge3d_cuda.kernels import LANGUAGE

NAME = "cuda"
SCORE = 400
_NO_DEVICE, _NO_DRIVER = (100, 101), (3, 34, 35)  # cudaError_t
_DRIVER_VERSION = Path("/proc/driver/nvidia/version")

MAX_LAYERS, MAX_DEPTH = 2048, 16384
"""Of textures in linear memory, which CUDA bounds by its size alone: what other devices have."""


@attrs.frozen
class CudaBackend:
    """Devices by selector: ``""`` the first, ``"1"`` by index, ``"h200"`` by part of the name."""

    name: str = NAME
    api: ApiRange = API

    def probe(self) -> Sequence[DeviceInfo]:
        """List the devices; raises ``NoDevice`` with the reason when there is no driver or no device."""
        return list_devices(load_cupy())

    def open(self, selector: str = "", options: DeviceOptions | None = None) -> Device:
        cupy = load_cupy()
        return self._open(cupy, select(list_devices(cupy), selector), options)

    def adopt(self, native: Any, options: DeviceOptions | None = None) -> Device:
        """Open what forge3d needs on a device that the caller already uses; it is never reset.

        Our work and the caller's on the legacy default stream run in the order of the calls.
        """
        index = _index_of(native)
        cupy = load_cupy()
        return self._open(cupy, select(list_devices(cupy), str(index)), options, shared=True)

    def _open(
        self, cupy: Any, info: DeviceInfo, options: DeviceOptions | None, *, shared: bool = False
    ) -> Device:
        assert info.limits is not None
        return assemble(CudaDriver.open(cupy, info, info.limits, shared=shared), options or DeviceOptions())


@hookimpl
def forge3d_backend() -> Backend:
    return CudaBackend()


def _describe(properties: dict[str, Any], index: int, version: str) -> DeviceInfo:
    return DeviceInfo(
        backend=NAME,
        name=properties["name"].decode(errors="replace"),
        kind="integrated" if properties["integrated"] else "discrete",
        selector=str(index),
        driver=version,
        score=SCORE,
        memory_bytes=properties["totalGlobalMem"],
        limits=Limits(
            max_buffer_size=properties["totalGlobalMem"],
            max_groups=tuple(properties["maxGridSize"]),
            max_group_threads=properties["maxThreadsPerBlock"],
            languages=(LANGUAGE,),
            mapped_copies=True,
            texture_formats=tuple(FORMATS),
            max_texture_layers=MAX_LAYERS,
            max_texture_depth=MAX_DEPTH,
        ),
    )


def select(devices: Sequence[DeviceInfo], selector: str) -> DeviceInfo:
    """Return the device that ``selector`` names: "" the first, "1" an index, "h200" part of a name."""
    wanted = selector.strip().casefold()
    if wanted.isdecimal():
        found = [device for device in devices if device.selector == wanted]
    else:
        found = [device for device in devices if wanted in device.name.casefold()]
    if not found:
        there = ", ".join(f"{device.selector} ({device.name})" for device in devices) or "no device"
        raise NoDevice(f"no CUDA device matches {selector!r}; there is {there}", backend=NAME)
    return found[0]


def list_devices(cupy: Any) -> list[DeviceInfo]:
    """Return what CUDA offers, in its own order; asks for counts and properties, which opens no context."""
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
        version = _versions(runtime)
        return [_describe(runtime.getDeviceProperties(index), index, version) for index in range(count)]
    except RuntimeError as error:
        status = getattr(error, "status", None)
        if status in _NO_DRIVER:
            raise NoDevice(
                f"no usable NVIDIA driver: {error}; install or update it (cupy-cuda13x needs 580 or newer)",
                backend=NAME,
                fix="install the NVIDIA driver, version 580 or newer",
            ) from error
        if status in _NO_DEVICE:
            raise NoDevice(
                f"the NVIDIA driver shows no device: {error}; check nvidia-smi and CUDA_VISIBLE_DEVICES",
                backend=NAME,
            ) from error
        raise NoDevice(f"CUDA cannot list its devices: {error}; check nvidia-smi", backend=NAME) from error


def _versions(runtime: Any) -> str:
    def text(version: int) -> str:
        return f"{version // 1000}.{version % 1000 // 10}"

    cuda = f"CUDA {text(runtime.driverGetVersion())} (runtime {text(runtime.runtimeGetVersion())})"
    try:
        found = re.search(r"\s(\d+(?:\.\d+)+)\s", _DRIVER_VERSION.read_text())
    except OSError:  # not Linux, or a driver that does not tell
        found = None
    return f"{cuda}, driver {found[1]}" if found else cuda


def _index_of(native: Any) -> int:
    """Return the index of a ``cupy.cuda.Device``, a ``torch.device`` or an int."""
    if isinstance(native, int) and not isinstance(native, bool):
        return native
    for attribute in ("id", "index"):
        index = getattr(native, attribute, None)
        if isinstance(index, int) and (attribute == "id" or getattr(native, "type", "") == "cuda"):
            return index
    raise UsageError(f"adopt takes a cupy.cuda.Device, a torch.device or an index, not {native!r}")


def load_cupy() -> Any:
    """Import CuPy; raises ``MissingDependency`` with the command that would mend it."""
    try:
        import cupy
    except ImportError as error:
        raise MissingDependency(
            f"the CUDA backend needs CuPy, which cannot be imported: {str(error).splitlines()[0]}; "
            "pip install cupy-cuda13x (driver 580 or newer) or cupy-cuda12x, never both",
            backend=NAME,
            fix="pip install cupy-cuda13x",
        ) from error
    return cupy
