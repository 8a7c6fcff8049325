"""The registry: every known plugin, what state it is in, and those that have been loaded.

It is the one piece of global state. Finding plugins imports nothing. Each is loaded into this process only
when it is to be opened, after the policy has let it; to learn its state it is probed in a process of its own.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from typing import cast

import attrs

from forge3d_core.errors import (
    BackendError,
    NoDevice,
    PluginFailed,
    UsageError,
)
from forge3d_core.forking import renew_in_child
from forge3d_core.hookspecs import hookimpl
from forge3d_core.plugins import (
    PERMISSIVE,
    Candidate,
    Hung,
    Look,
    Plugin,
    Policy,
    ProbeCache,
    State,
    Status,
    discover,
    load,
    normalise,
    only_here,
)
from forge3d_core.plugins.loading import BACKEND_MEMBERS
from forge3d_core.plugins.own import CORE_PACKAGE
from forge3d_core.plugins.refusals import afresh, collision, denied, only_when_named, unknown
from forge3d_core.printable import shown
from forge3d_core.protocols import Backend, DeviceInfo

IMPORT_TIMEOUT = 10.0
PROBE_TIMEOUT = 10.0  # a cold CUDA start, imports included, takes several seconds

PROCESSES = min(8, (os.cpu_count() or 1) + 1)
"""Plugins that are probed at a time."""

RESERVED = frozenset({"host", "auto"})
"""Names of the core that a program cannot give to a backend of its own."""

HERE = "(this program)"
"""Stands for a distribution where a program registered a plugin itself."""


@attrs.define(eq=False)
class _Slot:
    """What has become of one candidate: loaded, failed, or not tried yet."""

    lock: threading.Lock = attrs.field(factory=threading.Lock)
    plugin: Plugin | None = None
    failure: BackendError | None = None
    probed: BackendError | None = None  # what its own process told once, and will tell again


@attrs.define(eq=False)
class Registry:
    """Knows the plugins. ``discovery`` lists the installed ones; replace it to embed or to test.

    ``cache`` keeps what probes found lately; None for none.

    A plugin is loaded at most once in a process; a failure sticks until :meth:`refresh`.
    Thread-safety: all methods may be called from any thread; no lock is held while a plugin probes.
    """

    discovery: Callable[[], Iterable[Candidate]] = discover
    cache: ProbeCache | None = attrs.field(factory=ProbeCache)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _installed: tuple[Candidate, ...] | None = attrs.field(default=None, init=False)
    _registered: list[Candidate] = attrs.field(factory=list, init=False)
    _slots: dict[Candidate, _Slot] = attrs.field(factory=dict, init=False)
    _keys: dict[Candidate, set[str]] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        renew_in_child(self)

    def renew(self) -> None:
        """Have fresh locks in a forked child: what a thread of the parent was loading is loaded anew."""
        self._lock = threading.Lock()
        for slot in self._slots.values():
            slot.lock = threading.Lock()

    def candidates(self) -> dict[str, tuple[Candidate, ...]]:
        """Return what offers each name, sorted by name; nothing is imported."""
        with self._lock:
            if self._installed is None:
                self._installed = tuple(self.discovery())
            known = sorted([*self._registered, *self._installed], key=lambda c: (c.name, c.distribution))
        return {name: tuple(group) for name, group in groupby(known, key=lambda c: c.name)}

    def refresh(self) -> None:
        """Look at the installed distributions afresh, and give failed plugins another chance."""
        with self._lock:
            self._installed = None
            self._slots = {
                c: slot for c, slot in self._slots.items() if slot.failure is None and slot.probed is None
            }

    def register(self, plugin: object, name: str | None = None) -> Callable[[], None]:
        """Offer ``plugin`` (an object or module with hooks, or a bare backend) without installing it.

        ``name`` defaults to the backend's. Returns a function that takes it back. Like any plugin it
        is judged by the policy and collides with another of its name. Raises :class:`UsageError`
        when there is no name to be had or the program has registered that name before.
        """
        name = normalise(name or str(getattr(plugin, "name", "")))
        if not name:
            raise UsageError(f"{shown(plugin)} has no name; pass the backend's: register(plugin, name='...')")
        if name in RESERVED and not type(plugin).__module__.startswith(f"{CORE_PACKAGE}."):
            raise UsageError(f"{name!r} is the core's own name; register the backend under another one")
        bare = all(hasattr(plugin, member) for member in BACKEND_MEMBERS)
        hooks = _Bare(cast(Backend, plugin)) if bare else plugin
        candidate = Candidate(name, HERE, "", type(plugin).__module__, fetch=lambda: hooks)
        with self._lock:
            if any(c.name == name for c in self._registered):
                raise UsageError(
                    f"this program has registered a backend {name!r} before; take that back first"
                )
            self._registered.append(candidate)
        return partial(self._unregister, candidate)

    def _unregister(self, candidate: Candidate) -> None:
        with self._lock:
            self._registered[:] = [c for c in self._registered if c is not candidate]
            self._slots.pop(candidate, None)

    def find(self, name: str, policy: Policy = PERMISSIVE, *, requested: bool = True) -> Candidate:
        """Return the one candidate that ``policy`` lets load under ``name``, having run none of its code.

        Raises :class:`UnknownBackend`, :class:`BackendDenied`, or :class:`PluginFailed` for a name
        that several distributions offer and for damaged metadata.
        """
        name = normalise(name)
        offered = self.candidates().get(name)
        if offered is None:
            with self._lock:
                self._installed = None  # it may have been installed since
            offered = self.candidates().get(name)
        if offered is None:
            raise unknown(name, self.candidates())
        refused = {c: refusal for c in offered if (refusal := policy.refusal(c, requested=requested))}
        rivals = [c for c in offered if c not in refused]
        rivals = [c for c in rivals if c.problem is None] or rivals  # the damaged hide nobody
        if len(rivals) > 1:
            raise collision(name, rivals)
        if not rivals:
            raise denied(*next(iter(refused.items())))
        candidate = rivals[0]
        if candidate.problem:
            raise PluginFailed(f"{candidate}: {candidate.problem}", backend=name)
        return candidate

    def load(
        self,
        name: str,
        policy: Policy = PERMISSIVE,
        *,
        requested: bool = True,
        timeout: float = IMPORT_TIMEOUT,
    ) -> Plugin:
        """Return the plugin called ``name``, importing that one and no other.

        ``requested``: somebody asked for it by name; see :class:`Policy`. ``timeout`` in seconds.
        Raises the :class:`BackendError` that says why it cannot be had.
        """
        candidate = self.find(name, policy, requested=requested)
        slot = self._slot(candidate)
        with slot.lock:
            if slot.failure is not None:
                raise afresh(slot.failure)
            if slot.plugin is None:
                try:
                    slot.plugin = load(candidate, timeout)
                except BackendError as error:
                    slot.failure = error
                    raise
            return slot.plugin

    def loaded(self) -> tuple[Plugin, ...]:
        """Return the plugins that have been loaded and have not failed since."""
        with self._lock:
            slots = tuple(self._slots.values())
        return tuple(slot.plugin for slot in slots if slot.plugin is not None and slot.failure is None)

    def status(
        self,
        name: str,
        policy: Policy = PERMISSIVE,
        *,
        requested: bool = False,
        import_timeout: float = IMPORT_TIMEOUT,
        probe_timeout: float = PROBE_TIMEOUT,
        fresh: bool = True,
    ) -> Status:
        """Return the state of one plugin; see :meth:`statuses`."""
        (status,) = self.statuses(
            (name,),
            policy,
            requested=(name,) if requested else (),
            import_timeout=import_timeout,
            probe_timeout=probe_timeout,
            fresh=fresh,
        )
        return status

    def statuses(
        self,
        names: Iterable[str],
        policy: Policy = PERMISSIVE,
        *,
        requested: Iterable[str] = (),
        import_timeout: float = IMPORT_TIMEOUT,
        probe_timeout: float = PROBE_TIMEOUT,
        fresh: bool = False,
        told: Callable[[Status], None] = lambda _status: None,
    ) -> tuple[Status, ...]:
        """Load and probe the plugins as far as that goes, side by side; return their states, by name.

        A plugin is probed in a process of its own, unless it is the core's, has been loaded here already,
        was registered by the program, or this program cannot start an interpreter. ``fresh``: an answer of
        lately will not do. Timeouts in seconds. ``told`` hears of each state as it becomes known. Raises
        nothing but what interrupts the caller; a plugin that failed once has failed until :meth:`refresh`.
        """
        asked, wanted = frozenset(map(normalise, requested)), tuple(map(normalise, names))
        found: dict[str, Status] = {}
        waiting, started = deque(wanted), deque[Look]()
        try:
            while waiting or started:
                if waiting and len(started) < PROCESSES:
                    name = waiting.popleft()
                    look = self._look(name, policy, name in asked, (import_timeout, probe_timeout))
                    if isinstance(look, Look):
                        look.start(fresh=fresh)
                        started.append(look)
                        continue
                    status = look
                else:
                    status = self._seen(started[0])
                    started.popleft()
                found[status.name] = status
                told(status)
        finally:
            for look in started:
                look.end()
        return tuple(found[name] for name in wanted)

    def _look(
        self, name: str, policy: Policy, requested: bool, timeouts: tuple[float, float]
    ) -> Look | Status:
        """Return the look to take, or the status where there is nothing to look at."""
        try:
            candidate = self.find(name, policy, requested=requested)
            slot = self._slot(candidate)
            if slot.probed is not None:
                raise afresh(slot.probed)
        except BackendError as error:
            return Status.failed(name, self.candidates().get(name, ()), error)

        def here() -> tuple[DeviceInfo, ...]:
            plugin = self.load(name, policy, requested=requested, timeout=timeouts[0])
            try:
                return plugin.probe(timeouts[1])
            except Hung as error:
                self._give_up(plugin, error)
                raise

        apart = not (
            candidate.ours
            or candidate.distribution == HERE
            or slot.plugin is not None
            or slot.failure is not None
            or only_here(candidate)
        )
        return Look(candidate, here, timeouts, self.cache, apart)

    def _seen(self, look: Look) -> Status:
        name, candidate = look.candidate.name, look.candidate
        offered = self.candidates().get(name, ())
        try:
            devices = look.devices()
            if not devices:
                raise NoDevice(f"{name} works and finds no device on this machine", backend=name)
            if all(info.caution for info in devices):
                failed = only_when_named(name, devices)
                status = Status.failed(name, offered, failed, cached=look.cached)
                return attrs.evolve(status, devices=devices)
        except BackendError as error:
            self._slot(candidate).probed = look.lasting
            return Status.failed(name, offered, error, cached=look.cached)
        finally:
            if look.key:
                self._keys.setdefault(candidate, set()).add(look.key)
        rest = (c for c in offered if c is not candidate)
        return Status(name, State.AVAILABLE, (candidate, *rest), devices=devices, cached=look.cached)

    def forget(self, name: str) -> None:
        """Take away what lately was found of ``name``, as it turned out wrong."""
        for candidate in self.candidates().get(normalise(name), ()):
            for key in self._keys.pop(candidate, ()):
                if self.cache is not None:
                    self.cache.forget(key)

    def _slot(self, candidate: Candidate) -> _Slot:
        with self._lock:
            return self._slots.setdefault(candidate, _Slot())

    def _give_up(self, plugin: Plugin, error: BackendError) -> None:
        with self._lock:
            slot = self._slots.get(plugin.candidate)
            if slot is not None:
                slot.failure = error


@attrs.frozen(eq=False)
class _Bare:
    """The plugin object around a backend that was registered bare."""

    backend: Backend

    @hookimpl
    def forge3d_backend(self) -> Backend:
        return self.backend


REGISTRY = Registry()
"""The registry that ``open_device`` and the command line use."""
