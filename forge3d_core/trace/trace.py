"""The trace of a program: begun, ended, saved, drawn."""

from __future__ import annotations

import base64
import html
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import attrs

from forge3d_core import protocols
from forge3d_core.arguments import at_least
from forge3d_core.errors import MissingDependency, StateError
from forge3d_core.presentation import counted, line, presents
from forge3d_core.protocols import DeviceInfo
from forge3d_core.trace import picture
from forge3d_core.trace.chrome import Device, Recording, document
from forge3d_core.trace.events import now
from forge3d_core.trace.log import Log
from forge3d_core.trace.tap import Tap
from forge3d_core.trace.usage import Usage, usage

MAX_EVENTS = 100_000
"""Events of each kind that a trace keeps unless told otherwise: about 50 MB."""


class Tapped(Protocol):
    """A device that can be traced."""

    info: DeviceInfo
    tap: Tap


@attrs.define(eq=False)
class _Source:
    """One device of a trace."""

    number: int
    name: str
    lanes: tuple[str, ...]
    clock: str
    tap: Tap | None  # None once the trace has ended: a trace that is kept keeps no device


@presents(protocols.Trace)
class Trace:
    """See :class:`forge3d_core.protocols.Trace`."""

    def __init__(self, device: Tapped | None = None, *, max_events: int = MAX_EVENTS) -> None:
        self._log = Log(at_least(1, "max_events", max_events))
        self._sources: list[_Source] = []
        self._begun: float | None = None
        self._ended: float | None = None
        self._started = ""
        self._waiting = [] if device is None else [device]

    def start(self) -> Self:
        if self._begun is not None:
            raise StateError("this trace has been started before; take another: device.trace()")
        self._begun, self._started = now(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
        waiting, self._waiting = self._waiting, []
        for device in waiting:
            self.attach(device)
        return self

    def attach(self, device: Tapped) -> None:
        """Trace another device as well, from now on."""
        info, tap = device.info, device.tap
        name = f"{info.backend}:{info.selector} {info.name}"
        source = _Source(tap.number, name, tap.lanes, tap.clock, tap)
        self._sources.append(source)
        try:
            tap.add(self._log)
        except BaseException:  # an interrupt: there may be no end for this beginning
            tap.remove(self._log)
            raise

    def stop(self) -> None:
        if self._begun is None or self._ended is not None:
            return
        try:
            for source in self._sources:
                if source.tap is not None:
                    source.tap.remove(self._log)
                    source.tap = None
        finally:
            if all(source.tap is None for source in self._sources):
                self._ended = now()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the devices that are traced."""
        return tuple(source.name for source in self._sources)

    @property
    def dropped(self) -> int:
        return self._log.dropped

    def clear(self) -> None:
        self._log.clear()
        if self._begun is not None and self._ended is None:
            self._begun = now()

    def usage(self) -> Usage:
        """Return how busy the devices were; of one device, that is what it says."""
        return usage(self._log.submissions.all()[0])

    def document(self) -> dict[str, Any]:
        if self._begun is None:
            raise StateError("this trace has not been started: with device.trace() as t: ...")
        submissions, dropped = self._log.submissions.all()
        waits, waits_dropped = self._log.waits.all()
        copies, copies_dropped = self._log.copies.all()
        about = {
            "producer": "forge3d",
            "started": self._started,
            "dropped": dropped + waits_dropped + copies_dropped,
            "clocks": {source.name: source.clock for source in self._sources},
        }
        devices = {source.number: Device(source.name, source.lanes) for source in self._sources}
        ended = self._ended if self._ended is not None else now()
        return document(Recording(self._begun, ended, devices, submissions, waits, copies, about))

    def save(self, path: str | os.PathLike[str]) -> None:
        told = json.dumps(self.document())
        Path(path).write_text(told, encoding="ascii")

    def plot(
        self, path: str | os.PathLike[str] | None = None, *, window: Sequence[float] | None = None
    ) -> bytes:
        png = picture.draw(self.document(), window)
        if path is not None:
            Path(path).write_bytes(png)
        return png

    def summary(self) -> str:
        return picture.summary(self.document())

    def __repr__(self) -> str:
        submissions = len(self._log.submissions.all()[0])
        state = "not started" if self._begun is None else "under way" if self._ended is None else ""
        dropped = f"{self.dropped} dropped" if self.dropped else ""
        devices = counted(len(self._sources) + len(self._waiting), "device")
        return line(f"trace of {devices}", counted(submissions, "submission"), dropped, state)

    def _repr_png_(self) -> bytes | None:
        try:
            return self.plot() if self._begun is not None else None
        except MissingDependency:
            return None

    def _repr_html_(self) -> str:
        if self._begun is None:
            return html.escape(repr(self))
        text = f"<pre>{html.escape(self.summary())}</pre>"
        if (png := self._repr_png_()) is None:
            return text
        return f"<img src='data:image/png;base64,{base64.b64encode(png).decode()}' alt='trace'>{text}"
