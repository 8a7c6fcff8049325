"""What a plugin offers: a backend that names itself, probes without side effects, and opens a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import attrs

from forge3d_core.protocols.device import Device, DeviceInfo, DeviceOptions


@attrs.frozen(order=True)
class ApiVersion:
    """A plugin API version. A minor step adds, a major step may break."""

    major: int
    minor: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@attrs.frozen
class ApiRange:
    """The plugin API versions that one side understands, both ends included."""

    oldest: ApiVersion
    newest: ApiVersion

    def negotiate(self, other: ApiRange) -> ApiVersion | None:
        """Return the newest version that both sides understand, or None."""
        version = min(self.newest, other.newest)
        return version if version >= max(self.oldest, other.oldest) else None

    def __str__(self) -> str:
        return f"{self.oldest}" if self.oldest == self.newest else f"{self.oldest} to {self.newest}"


@runtime_checkable
class Backend(Protocol):
    """A plugin's one object.

    Contract
        ``probe`` may import the GPU library (importing the plugin's own module may not). It opens
        nothing, allocates nothing and changes no state that another library in the process could
        see. It returns the devices in order of preference, possibly none, and raises
        :class:`MissingDependency` when the library itself is absent.

        ``open`` opens the device that ``selector`` names; what a selector may say is the backend's
        business and in its documentation (``"0"``, ``"llvmpipe"``, ``"?seed=42"``). The selector of
        a probed device opens exactly that device. An empty one means the first that ``probe`` would
        list without a ``caution``. It raises :class:`NoDevice`, naming what there is, when nothing
        fits. It never opens something else instead.

        ``adopt`` wraps a native device that the caller already has. Closing the adopted device
        closes what forge3d made on it and leaves the native device open.

    Thread-safety: all methods may be called from any thread.
    """

    @property
    def name(self) -> str:
        """The name it is selected by; equal to the entry point's."""

    @property
    def api(self) -> ApiRange:
        """The plugin API versions it speaks."""

    def probe(self) -> Sequence[DeviceInfo]:
        """List the devices that ``open`` could open, best first, without side effects."""

    def open(self, selector: str = "", options: DeviceOptions = ...) -> Device:
        """Open the device that ``selector`` names; ``options`` are the core's."""

    def adopt(self, native: Any, options: DeviceOptions = ...) -> Device:
        """Wrap the caller's own native device; it is not closed by us."""
