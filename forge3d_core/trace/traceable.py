"""``device.trace()``, for a device that has a tap."""

from __future__ import annotations

from forge3d_core.protocols import DeviceInfo
from forge3d_core.trace.tap import Tap
from forge3d_core.trace.trace import MAX_EVENTS, Trace


class Traceable:
    """A device that can be traced: by what it submits to its driver, and by who waits for that."""

    info: DeviceInfo
    tap: Tap

    def check(self) -> None:
        """Raise unless the device can be used."""

    def trace(self, *, max_events: int = MAX_EVENTS) -> Trace:
        """Return a trace, for ``with``; see :class:`forge3d_core.protocols.TracedDevice`."""
        self.check()
        return Trace(self, max_events=max_events)
