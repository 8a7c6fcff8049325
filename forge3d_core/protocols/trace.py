"""A trace: what a device and its program did, and when."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol, Self, runtime_checkable

from forge3d_core.protocols.device import HostArrayDevice


@runtime_checkable
class Trace(Protocol):
    """What was submitted, when it ran, which threads waited, which host blocks the device had, host copies.

    It begins with the ``with`` block and ends with it, however that ends: by an error, an interrupt, or with
    the device closed or lost in it. Traces may nest and overlap, and each has what came in its own time. Work
    that was in flight at its end is shown as such.

    Times of work are the device's own where it has timestamps (CUDA events, a host lane's thread). Elsewhere
    its end is the moment at which the host saw it complete, and its begin the earliest there can have been.
    The trace says which: ``clock`` in the arguments of each, ``clocks`` in ``otherData``.

    Host copies are those of the whole process: worker threads belong to no device. A device costs nothing
    more before the first trace of it begins, and after the last one has ended.

    Thread-safety: any thread.
    """

    @property
    def dropped(self) -> int:
        """How many events are missing, the oldest: ``max_events`` of each kind are kept."""

    def start(self) -> Self:
        """Begin, without ``with``. Raises :class:`StateError` for a trace that has begun before."""

    def stop(self) -> None:
        """End; idempotent. What the device has finished by now is noted."""

    def clear(self) -> None:
        """Forget what has been noted so far, and begin anew."""

    def document(self) -> dict[str, Any]:
        """Return the trace as Chrome's trace events: what :meth:`save` writes."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON that Perfetto (ui.perfetto.dev) and ``chrome://tracing`` show."""

    def plot(
        self, path: str | os.PathLike[str] | None = None, *, window: Sequence[float] | None = None
    ) -> bytes:
        """Draw the trace and return the PNG, also written to ``path`` if given.

        ``window``: the first and last millisecond to show. Takes matplotlib; raises
        :class:`MissingDependency` without it.
        """

    def summary(self) -> str:
        """Return in plain text how much of the time each lane and thread was busy, and with what."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


@runtime_checkable
class TracedDevice(HostArrayDevice, Protocol):
    """A device that can be traced.

    Devices that the core assembles are; others need not be.
    """

    def trace(self, *, max_events: int = 100_000) -> Trace:
        """Return a trace, which begins with a ``with`` block: ``with device.trace() as t: ...``.

        ``t.save("t.json")`` writes it for Perfetto, ``t.plot("t.png")`` draws it, and a notebook shows the
        picture. ``max_events`` of each kind are kept, the newest. With a driver that has :class:`Ranges`
        (CUDA), what is traced is in the API's own profiler too.
        """
