"""Selection: open the device that arguments and configuration choose.

Precedence: argument > ``FORGE3D_BACKEND`` > nearest project file > user's file > automatic. An
explicit choice never falls back to another backend: it opens, or says why not and what to do.

Automatic choice opens the device with the highest ``DeviceInfo.score``, and the next one where that does
not open; between equals the backend's name decides. What plugins find is asked in processes of their own, and
only the plugin of the device that opens is loaded into this one. By convention: CUDA 400, discrete GPU 300,
integrated 200, virtual 100, an API's CPU adapter 10, the host backend 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import attrs

from forge3d_core.config import configuration
from forge3d_core.errors import BackendError, ForgeError, NoDevice, PluginFailed, UsageError
from forge3d_core.lifetime.deferred_close import close_deferred
from forge3d_core.plugins import BackendSpec, Plugin, contained, import_failure
from forge3d_core.plugins.registry import REGISTRY, Registry
from forge3d_core.printable import described, shown
from forge3d_core.protocols import Device, DeviceOptions, FencePoint
from forge3d_core.selection.decision import Decision, Request, decide, nothing_opens
from forge3d_core.selection.observed import observe
from forge3d_core.selection.simulated import simulator
from forge3d_core.status.publisher import PUBLISHER

NEVER = 2**63 - 1
"""A timeline value that no device lives to reach."""

NO_LIMITS: Mapping[str, int] = MappingProxyType({})

DEVICE_MEMBERS = ("info", "limits", "budget", "lanes", "submit", "staging_ring", "readback_pool", "close")


def open_device(
    backend: str | BackendSpec | None = None,
    *,
    budget: int | str | None = None,
    drain_timeout: float | None = None,
    features: Iterable[str] = (),
    limits: Mapping[str, int] = NO_LIMITS,
    registry: Registry = REGISTRY,
) -> Device:
    """Open the device that arguments and configuration choose; the best there is when they are silent.

    ``backend``: ``"name"`` or ``"name:selector"`` (``"wgpu:llvmpipe"``, ``"cuda:1"``), or ``"auto"``.
    ``budget``: the limit on host-visible bytes, ``"512 MiB"`` unless configured. ``drain_timeout``:
    seconds that ``close`` lets submitted work end. ``features`` and ``limits``: what the API's own device
    must have besides, by the API's names (``["float32-filterable"]``, ``{"max-bind-groups": 4}`` on wgpu), so
    that another library can use it. Thread-safety: may be called from any thread.

    Raises the :class:`BackendError` that says why there is no device and what would help,
    :class:`UsageError` for a bad argument and :class:`ConfigError` for a bad source.
    """
    wanted = simulator() or backend
    asked = DeviceOptions(features=features, limits=limits)  # which checks them
    request = attrs.evolve(
        Request.of(configuration(backend=wanted, budget=budget, drain_timeout=drain_timeout)),
        features=asked.features,
        limits=asked.limits,
    )
    if request.spec.automatic:
        device = _open_automatic(request, registry)
    else:
        plugin = _load(registry, request, request.spec.name, named=request.named)
        device = _provided(plugin, request.spec.selector, request.options)
    return _announced(device, registry)


def adopt_device(
    native: Any,
    backend: str,
    *,
    budget: int | str | None = None,
    drain_timeout: float | None = None,
    registry: Registry = REGISTRY,
) -> Device:
    """Wrap a native device that the caller already has; closing the result leaves it open.

    ``backend`` names whose device it is (``"wgpu"``, ``"cuda"``); configuration cannot know that.
    Otherwise as :func:`open_device`; raises :class:`UsageError` too for what is no device of that
    backend.
    """
    request = Request.of(configuration(backend=backend, budget=budget, drain_timeout=drain_timeout))
    if request.spec.automatic or request.spec.selector:
        given = shown(str(backend))
        raise UsageError(f"adopt_device takes the name of one backend, such as 'wgpu', not {given}")
    plugin = _load(registry, request, request.spec.name, named=True)
    return _announced(_opened(plugin, partial(plugin.backend.adopt, native, request.options)), registry)


def load_backend(backend: str, *, registry: Registry = REGISTRY) -> Plugin:
    """Return the plugin that offers ``backend``, loaded as :func:`open_device` loads it, and open nothing.

    For tools that look at one backend, such as the conformance suite. ``backend`` may have a selector,
    which means nothing here. Raises the :class:`BackendError` that says why it is not to be had (denied,
    unknown, offered twice, failed to load) and :class:`UsageError` for what is no backend's name.
    """
    request = Request.of(configuration(backend=backend))
    if request.spec.automatic:
        raise UsageError(f"{shown(backend)} stands for automatic choice; name one backend, such as 'host'")
    return _load(registry, request, request.spec.name, named=True)


def _load(registry: Registry, request: Request, name: str, *, named: bool) -> Plugin:
    return registry.load(name, request.policy, requested=named, timeout=request.import_timeout)


def _open_automatic(request: Request, registry: Registry) -> Device:
    decision = decide(request, registry, fresh=False)
    try:
        return _open_best(decision, registry)
    except NoDevice:
        if not any(status.cached for status in decision.statuses):
            raise
    return _open_best(decide(request, registry), registry)  # what was found lately is so no more


def _open_best(decision: Decision, registry: Registry) -> Device:
    request, refusals, first = decision.request, list[str](), None
    for info in decision.ranked:
        try:
            plugin = _load(registry, request, info.backend, named=False)
            return _provided(plugin, info.selector, request.options)
        except Exception as error:
            told = described(error)
            told = told.partition(": ")[2] if isinstance(error, BackendError) else told
            refusals.append(f"{BackendSpec(info.backend, info.selector)}: {told}")
            first = first or error
            registry.forget(info.backend)
    raise nothing_opens(decision.statuses, tuple(refusals)) from first


def _provided(plugin: Plugin, selector: str, options: DeviceOptions) -> Device:
    """Open a device, and close it again where it has not what ``options`` ask of the API's own."""
    device = _opened(plugin, partial(plugin.backend.open, selector, options))
    if not (options.features or options.limits):
        return device
    there = device.limits.features
    lacking = [name for name in options.features if name.replace("_", "-") not in there]
    if lacking or (options.limits and not there):
        device.close()
        what = f"feature {', '.join(lacking)}" if lacking else f"limit {', '.join(options.limits)}"
        raise NoDevice(
            f"{device.info.name} has no {what} to ask for; leave it out, or open a device of another backend",
            backend=plugin.name,
        )
    return device


def _opened(plugin: Plugin, open_: Callable[[], Device]) -> Device:
    """Return what the plugin opens; what it raises that is none of ours is the plugin's failure."""
    doing = f"opening a device of {plugin.name}"
    close_deferred()  # some drivers open only so many devices at a time
    try:
        device = open_()
        # by attribute, not isinstance: since Python 3.12 that overlooks what a wrapper passes on
        whole = all(hasattr(device, member) for member in DEVICE_MEMBERS)
    except ForgeError:
        raise
    except ImportError as error:
        raise import_failure(plugin.candidate, error, doing) from error
    except (Exception, SystemExit) as error:
        raise contained(error, doing, plugin.name) from error
    if not whole:
        raise PluginFailed(
            f"{plugin.name} returned {shown(device)}, not a device; tell the author of {plugin.candidate}",
            backend=plugin.name,
        )
    return device


def _announced(device: Device, registry: Registry) -> Device:
    """Tell who looks and the loaded plugins that the device is open, and these when it has closed."""
    PUBLISHER.add(device)
    observe(device)
    plugins = registry.loaded()
    for plugin in plugins:
        plugin.notify("forge3d_device_opened", device=device)
    mourners = [plugin for plugin in plugins if plugin.implements("forge3d_device_closed")]
    if mourners:
        info = device.info

        def closed(_point: FencePoint, _error: Exception | None) -> None:
            for plugin in mourners:
                plugin.notify("forge3d_device_closed", info=info)

        # a point that is never reached is settled when the device closes or is lost, by nothing else
        next(iter(device.lanes.values())).timeline.point(NEVER).on_done(closed)
    return device
