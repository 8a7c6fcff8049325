"""One look at a plugin: what it finds on this machine, asked where that can do no harm."""

from __future__ import annotations

import sys
from collections.abc import Callable

import attrs

from forge3d_core.errors import BackendError, PluginFailed
from forge3d_core.plugins.cache import ProbeCache, fingerprint
from forge3d_core.plugins.discovery import Candidate
from forge3d_core.plugins.remote import NoProcess, RemoteProbe
from forge3d_core.protocols import DeviceInfo


@attrs.define(eq=False)
class Look:
    """A plugin that is being probed: ``start``, then ``devices``, or ``end`` at any time.

    ``here`` probes in this process. It is what there is for a plugin of ours or of the program, for one that
    is loaded already, and where no process can be had; any other plugin is probed in its own, unless
    ``cache`` knows the answer and ``fresh`` is off.
    """

    candidate: Candidate
    here: Callable[[], tuple[DeviceInfo, ...]]
    timeouts: tuple[float, float]
    cache: ProbeCache | None
    apart: bool
    cached: bool = False
    key: str | None = None
    _remote: RemoteProbe | None = None
    _found: tuple[DeviceInfo, ...] | BackendError | None = None

    def start(self, *, fresh: bool) -> None:
        """Begin; returns at once."""
        if not self.apart:
            return
        self.key = fingerprint(self.candidate, *self.timeouts) if self.cache is not None else None
        if self.key and self.cache is not None and not fresh:
            self._found = self.cache.find(self.key, self.candidate.name)
            self.cached = self._found is not None
        if not self.cached:
            try:
                self._remote = RemoteProbe(self.candidate, *self.timeouts)
            except NoProcess:
                self.apart = False

    def devices(self) -> tuple[DeviceInfo, ...]:
        """Return what was found, or raise the :class:`BackendError` that tells why nothing can be."""
        if self._remote is not None:
            try:
                self._found = self._remote.result()
            except NoProcess:
                self.apart = False
            except BackendError as error:
                self._found = error
            if self._found is not None and self.key and self.cache is not None:
                self.cache.keep(self.key, self._found)
        if self._found is None:
            return self.here()
        if isinstance(self._found, BackendError):
            raise self._found
        return self._found

    def end(self) -> None:
        if self._remote is not None:
            self._remote.end()

    @property
    def lasting(self) -> BackendError | None:
        """The failure that another look would only repeat."""
        return self._found if isinstance(self._found, PluginFailed) else None


def only_here(candidate: Candidate) -> bool:
    """Whether the plugin's package is one that this program made in memory: no other process finds it."""
    module = sys.modules.get(candidate.package)
    return module is not None and not (getattr(module, "__file__", None) or getattr(module, "__path__", None))
