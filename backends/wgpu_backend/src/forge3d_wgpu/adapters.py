"""The adapters of this machine: finding them, telling of them, and choosing one by selector.

wgpu's OpenGL is asked only when it is wanted. Looking for it makes an EGL context current, which ends the
process where another thread holds that context, so it is looked for once, on an instance of our own that
no other library shares. All its devices must come from that one adapter: the lock on its context is the
adapter's (see :mod:`forge3d_wgpu.opengl`).

Thread-safety: any thread. ``OPENING`` serialises looking and opening; a forked child has a fresh one.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import attrs

from forge3d_core.errors import MissingDependency, NoDevice
from forge3d_core.forking import renew_in_child
from forge3d_core.protocols import DeviceInfo, DeviceKind

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

OPENGL = "opengl"
APIS = {"Vulkan": "vulkan", "Metal": "metal", "D3D12": "dx12", "OpenGL": OPENGL, "OpenGLES": OPENGL}
"""wgpu-py's names of the APIs, and what selectors call them."""

ALIASES = {"gl": OPENGL, "gles": OPENGL, "d3d12": "dx12"}

# wgpu.h, WGPUInstanceBackend: Vulkan, Metal and DX12; GL.
_NATIVE_APIS = 1 << 0 | 1 << 2 | 1 << 3
_OPENGL_API = 1 << 1

FIX = "apt-get install mesa-vulkan-drivers"
CAUTION = (
    "over OpenGL, wgpu allocates and compiles only while nothing runs, and adopts nothing; "
    "install a Vulkan driver (for a CPU: mesa-vulkan-drivers), or name it: wgpu:opengl"
)

Found = tuple[DeviceInfo, Any]


class _State:
    """What is one in a process: locks, and OpenGL's adapters once they have been looked for."""

    def __init__(self) -> None:
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Start afresh: in a forked child the locks may be held, and the contexts are the parent's."""
        self.lock = threading.RLock()
        self.context = threading.Lock()
        self.opengl: list[Any] | None = None


_state = _State()


@contextmanager
def opening() -> Iterator[None]:
    """Hold off every other thread that looks for adapters or opens one."""
    with _state.lock:
        yield


def opengl_context() -> threading.Lock:
    """Return the lock on the context that all OpenGL devices of the process share."""
    return _state.context


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


def describe(adapter: Any, selector: str) -> DeviceInfo:
    """Return what a probe tells of an adapter."""
    limits_of = import_module("forge3d_wgpu.driver").limits_of  # imports wgpu, so not before a probe
    kind = KINDS.get(adapter.info["adapter_type"], "virtual")
    api = adapter.info["backend_type"]
    opengl = APIS.get(api) == OPENGL
    return DeviceInfo(
        backend=NAME,
        name=adapter.info["device"] or adapter.info["vendor"] or "unnamed adapter",
        kind=kind,
        selector=selector,
        driver=f"{api}, {adapter.info['description']}".rstrip(", "),
        score=SCORES[kind] - (OPENGL_PENALTY if opengl else 0),
        limits=limits_of(adapter),
        caution=CAUTION if opengl else "",
        fix=FIX if opengl else None,
    )


def list_devices(*, opengl: bool = True) -> list[Found]:
    """Enumerate adapters, best first, those of OpenGL last and only if asked; opens nothing.

    The selector of one is its number; of one over OpenGL, which has no number among the others, ``opengl:0``.
    """
    wgpu = load_wgpu()
    with opening():
        found = _ranked(_enumerate(wgpu, _shared_instance(), _NATIVE_APIS), "")
        return found + _ranked(_opengl_adapters(wgpu), f"{OPENGL}:") if opengl else found


def find(selector: str) -> Found:
    """Return the adapter that ``selector`` names, having asked OpenGL only if nothing else fits."""
    found = list_devices(opengl=False)
    try:
        return select(found, selector)
    except NoDevice:
        return select(list_devices(), selector)


def select(adapters: Sequence[Found], selector: str) -> Found:
    """Return the first adapter that ``selector`` fits, or raise :class:`NoDevice` naming what there is.

    Those with a caution are taken only when the selector names their API.
    """
    api, wanted = _parse(selector)
    of_api = [(info, adapter) for info, adapter in adapters if api in ("", _api(info))]
    for number, (info, adapter) in enumerate(of_api):
        if info.caution and not api:
            continue
        fits = wanted == str(number) if wanted.isdecimal() else wanted in ("", info.kind)
        if fits or (not wanted.isdecimal() and wanted in info.name.lower()):
            return info, adapter
    raise nothing_fits(adapters, selector)


def nothing_fits(adapters: Sequence[Found], selector: str) -> NoDevice:
    """Return the error that says what there is, or what to install."""
    there = "; ".join(f"{info.selector}: {info.name} ({info.kind}, {info.driver})" for info, _ in adapters)
    if not there:
        text = "wgpu finds no adapter here; install a Vulkan driver (for a CPU: mesa-vulkan-drivers)"
    elif all(info.caution for info, _ in adapters):
        named = f"no wgpu adapter fits {selector!r}; there is only" if selector else "wgpu finds only"
        text = f"{named} {there}: {CAUTION}"
    else:
        return NoDevice(f"no wgpu adapter fits {selector!r}; there is {there}", backend=NAME)
    return NoDevice(f"{text}; try: {FIX}", backend=NAME, fix=FIX)


def _parse(selector: str) -> tuple[str, str]:
    """Split ``vulkan:llvmpipe`` into the API and what is left; the API is empty where none is named."""
    whole = selector.strip().lower()
    head, _, rest = whole.partition(":")
    api = ALIASES.get(head.strip(), head.strip())
    return (api, rest.strip()) if api in APIS.values() else ("", whole)


def _api(info: DeviceInfo) -> str:
    return APIS.get(info.driver.partition(",")[0], "")


def _ranked(adapters: Sequence[Any], prefix: str) -> list[Found]:
    pairs = sorted(
        ((describe(adapter, ""), adapter) for adapter in adapters), key=lambda pair: -pair[0].score
    )
    return [(attrs.evolve(info, selector=f"{prefix}{i}"), adapter) for i, (info, adapter) in enumerate(pairs)]


def _opengl_adapters(wgpu: Any) -> list[Any]:
    if sys.platform == "darwin":
        return []  # wgpu-native has no OpenGL there
    if _state.opengl is None:
        found = _enumerate(wgpu, _own_instance(_OPENGL_API), _OPENGL_API)
        _state.opengl = [adapter for adapter in found if runs_kernels(adapter)]
    return _state.opengl


def runs_kernels(adapter: Any) -> bool:
    """Whether an OpenGL has compute shaders, without which not even a fill can be made.

    OpenGL has them from 4.3 on, OpenGL ES from 3.1. The limits do not tell: they are those of an extension,
    for which wgpu writes no shaders.
    """
    found = re.search(r"(ES )?(\d+)\.(\d+)", adapter.info["description"])
    return found is None or (int(found[2]), int(found[3])) >= ((3, 1) if found[1] else (4, 3))


def _enumerate(wgpu: Any, instance: Any, apis: int) -> list[Any]:
    native = import_module("wgpu.backends.wgpu_native")
    options = native.ffi.new("WGPUInstanceEnumerateAdapterOptions *", {"backends": apis})
    with _no_word_of_wayland():
        count = native.lib.wgpuInstanceEnumerateAdapters(instance, options, native.ffi.NULL)
        adapters = native.ffi.new("WGPUAdapter[]", count)
        native.lib.wgpuInstanceEnumerateAdapters(instance, options, adapters)
    return [wgpu.gpu._create_adapter(adapter) for adapter in adapters]


def _shared_instance() -> Any:
    """Return the instance that wgpu-py has for all of the process, on which surfaces are made, too."""
    with _no_word_of_wayland():
        return import_module("wgpu.backends.wgpu_native._helpers").get_wgpu_instance()


def _own_instance(apis: int) -> Any:
    native = import_module("wgpu.backends.wgpu_native")
    extras = native.ffi.new("WGPUInstanceExtras *", {"backends": apis})
    extras.chain.sType = native.lib.WGPUSType_InstanceExtras
    descriptor = native.ffi.new("WGPUInstanceDescriptor *")
    descriptor.nextInChain = native.ffi.cast("WGPUChainedStruct *", extras)
    with _no_word_of_wayland():
        return native.lib.wgpuCreateInstance(descriptor)


@contextmanager
def _no_word_of_wayland() -> Iterator[None]:
    """Give Mesa an ``XDG_RUNTIME_DIR`` where there is none, or libwayland complains of it on fd 2.

    Where no Wayland display can be, Mesa need not look for one. The variable is the C library's for some
    milliseconds, and not Python's: ``os.environ`` shows nothing of it. (To redirect fd 2 meanwhile would
    lose what other threads write there.)
    """
    if not sys.platform.startswith("linux") or os.environ.get("XDG_RUNTIME_DIR", "").startswith("/"):
        yield
        return
    try:
        os.putenv("XDG_RUNTIME_DIR", "/nonexistent")
        yield
    finally:
        before = os.environ.get("XDG_RUNTIME_DIR")
        if before is None:
            os.unsetenv("XDG_RUNTIME_DIR")
        else:
            os.putenv("XDG_RUNTIME_DIR", before)
