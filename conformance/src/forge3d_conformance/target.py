"""The backend under test, loaded as any program would load it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import attrs

from forge3d_conformance.faulty import CALLS
from forge3d_conformance.subject import Declared, find_subject
from forge3d_conformance.texels import FORMATS
from forge3d_core import load_backend
from forge3d_core.errors import BackendError, ForgeError, NoDevice
from forge3d_core.protocols import (
    LANE_ROLES,
    AsyncRing,
    Backend,
    BatchingPool,
    BatchingRing,
    ClosableKernel,
    Device,
    DeviceInfo,
    DeviceOptions,
    HostArrayDevice,
    KernelSource,
    Limits,
    RecyclableBuffer,
)

ENTRY_POINT_GROUP = "forge3d.backends"

KERNEL_CAPABILITIES = {"bindings": ("weave",), "fail": ("fail",), "kernels": ("scalars", "grid", "decrement")}
"""What a device is capable of that speaks a language in which these kernels are written or lent."""


TRIES, TRY_SECONDS = 3, 5.0
"""Submissions that are timed, and how long one is waited for."""


@attrs.frozen(eq=False)
class Target:
    """One backend, one of its devices, and what it lends the suite."""

    spec: str
    name: str
    selector: str
    distribution: str
    backend: Backend
    subject: Declared
    info: DeviceInfo
    limits: Limits
    capabilities: frozenset[str]
    formats: tuple[str, ...]
    """The plain colour formats of which it makes textures."""
    pace: float = 0.0
    """Seconds that it takes to submit next to nothing and to wait for it, at best."""


def installed() -> dict[str, EntryPoint]:
    """Return the entry points of the installed backends by name; nothing is imported."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def find_target(spec: str) -> Target:
    """Load the backend that ``name[:selector]`` names and open its device once to learn of it.

    Raises a :class:`BackendError` saying what is missing.
    """
    _, _, selector = spec.partition(":")
    plugin = load_backend(spec)
    name, backend, candidate = plugin.name, plugin.backend, plugin.candidate
    subject = find_subject(name, candidate.distribution)
    try:
        with backend.open(selector, DeviceOptions()) as device:
            info, limits, pace = device.info, device.limits, _pace(device)
            capabilities = set(subject.capabilities)
            roles = {device.lanes[role].name for role in LANE_ROLES}
            if limits.concurrent_lanes and len(roles) == len(LANE_ROLES):
                capabilities.add("concurrent_lanes")
            if all(hasattr(getattr(device, "driver", None), call) for call in CALLS):
                capabilities.add("driver")
            for capability, kernels in KERNEL_CAPABILITIES.items():
                if all(_speaks(limits, subject.kernels[kernel]) for kernel in kernels):
                    capabilities.add(capability)
            if hasattr(os, "fork"):
                capabilities.add("fork")
            if callable(getattr(subject.lent, "memory_in_use", None)):
                capabilities.add("memory")
            formats = tuple(name for name in FORMATS if _takes(device, name))
            if formats:
                capabilities.add("textures")
            if len(formats) > 1:
                capabilities.add("formats")
            if isinstance(device, HostArrayDevice):
                capabilities.add("host_array")
            if _makes(partial(device.create_buffer, 64), RecyclableBuffer):
                capabilities.add("recycle")
            if _makes(partial(device.create_kernel, subject.kernels["increment"]), ClosableKernel):
                capabilities.add("kernel_close")
            if _reuses_lists(device):
                capabilities.add("reusable_lists")
            if _makes(partial(device.staging_ring, ring_count=1, buffer_size=256), BatchingRing):
                capabilities.add("upload_many")
            if _makes(partial(device.staging_ring, ring_count=1, buffer_size=256), AsyncRing):
                capabilities.add("async_ring")
            if _makes(partial(device.readback_pool, pre_allocate=False), BatchingPool):
                capabilities.add("read_many")
    except BackendError:
        raise
    except Exception as error:
        raise NoDevice(f"{spec} does not open: {type(error).__name__}: {error}", backend=name) from error
    return Target(
        spec,
        name,
        selector,
        str(candidate),
        backend,
        subject,
        info,
        limits,
        frozenset(capabilities),
        formats,
        pace,
    )


def _pace(device: Device) -> float:
    """Return the least that one of a few small submissions takes; 0 where none does what it should."""
    taken = []
    try:
        with device.create_buffer(64) as buffer:
            for _ in range(TRIES):
                started = time.monotonic()
                device.submit(device.command_list().fill(buffer, 0)).wait(TRY_SECONDS)
                taken.append(time.monotonic() - started)
    except Exception:  # a failure is for the clauses to tell
        return 0.0
    return min(taken)


def _makes(make: Callable[[], Any], protocol: type) -> bool:
    """Whether what ``make`` returns has the calls of ``protocol``; what fails is for the clauses to tell."""
    try:
        with make() as made:
            return isinstance(made, protocol)
    except Exception:
        return False


def _speaks(limits: Limits, kernel: KernelSource) -> bool:
    return not kernel.sources.keys().isdisjoint(limits.languages)


def _takes(device: Device, format: str) -> bool:
    try:
        device.create_texture(1, 1, format).close()
    except ForgeError:
        return False
    return True


def _reuses_lists(device: Device) -> bool:
    try:
        device.command_list(reusable=True)
    except TypeError:  # it has no such argument, which came after plugin API 1.0
        return False
    return True


def find_backend(spec: str) -> Backend:
    """Load the backend that ``name[:selector]`` names, and open nothing."""
    return load_backend(spec).backend
