"""The backend under test: found by its entry point, without the core's registry."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint, entry_points

import attrs

from forge3d_conformance.subject import Declared, find_subject
from forge3d_core.errors import BackendError, ForgeError, NoDevice, PluginFailed, UnknownBackend
from forge3d_core.protocols import Backend, DeviceInfo, DeviceOptions, Limits

ENTRY_POINT_GROUP = "forge3d.backends"


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


def installed() -> dict[str, EntryPoint]:
    """Return the entry points of the installed backends by name; nothing is imported."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def find_target(spec: str) -> Target:
    """Load the backend that ``name[:selector]`` names and open its device once to learn of it.

    Raises a :class:`BackendError` saying what is missing.
    """
    name, _, selector = spec.partition(":")
    point = _point(name)
    name, backend = point.name, _load(point)
    subject = find_subject(name)
    try:
        with backend.open(selector, DeviceOptions()) as device:
            info, limits = device.info, device.limits
            capabilities = set(subject.capabilities)
            if limits.concurrent_lanes:
                capabilities.add("concurrent_lanes")
            if hasattr(os, "fork"):
                capabilities.add("fork")
            if callable(getattr(subject.lent, "memory_in_use", None)):
                capabilities.add("memory")
            try:
                device.create_texture(1, 1).close()
                capabilities.add("textures")
            except ForgeError:
                pass
    except BackendError:
        raise
    except Exception as error:
        raise NoDevice(f"{spec} does not open: {type(error).__name__}: {error}", backend=name) from error
    version = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
    return Target(spec, name, selector, version, backend, subject, info, limits, frozenset(capabilities))


def find_backend(spec: str) -> Backend:
    """Load the backend that ``name[:selector]`` names, and open nothing."""
    return _load(_point(spec.partition(":")[0]))


def _point(name: str) -> EntryPoint:
    points = {_plain(known): point for known, point in installed().items()}
    if _plain(name) not in points:
        raise UnknownBackend(
            f"no backend {name!r} is installed; there are {', '.join(sorted(points)) or 'none'}", backend=name
        )
    return points[_plain(name)]


def _plain(name: str) -> str:
    """Return a name as the core compares it: hyphens and underscores are one."""
    return name.lower().replace("_", "-")


def _load(point: EntryPoint) -> Backend:
    try:
        plugin = point.load()
        plugin = plugin() if isinstance(plugin, type) else plugin
        backend: Backend = plugin.forge3d_backend()
    except Exception as error:
        raise PluginFailed(
            f"the plugin of {point.name!r} ({point.value}) does not load: {type(error).__name__}: {error}",
            backend=point.name,
        ) from error
    return backend
