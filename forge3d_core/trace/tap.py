"""Where traces come into a device, and out again.

Off costs nothing: without a log the device asks its own driver, and its timelines are plain ones. The first
log puts the tracing parts in, the last one that leaves takes them out.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from forge3d_core.driver import Driver, Timing
from forge3d_core.forking import renew_in_child
from forge3d_core.presentation import line
from forge3d_core.timeline.timeline import Timeline
from forge3d_core.trace.copies import COPIES
from forge3d_core.trace.driver import TracedDriver
from forge3d_core.trace.log import Log

_numbers = itertools.count(2)  # of devices; 1 stands for the process


class TracedTimeline(Timeline):
    """A timeline of a traced device: it notes who waits. Made of a plain one by setting its class."""

    __slots__ = ()

    def wait(self, value: int, timeout: float | None = None, over: Callable[[], bool] | None = None) -> None:
        traced = self.signals
        if self.last_known >= value or not isinstance(traced, TracedDriver):
            Timeline.wait(self, value, timeout, over)  # no super(): the class may be set back meanwhile
            return
        with traced.waiting(self, value):
            Timeline.wait(self, value, timeout, over)


class Submits(Protocol):
    """What asks the driver to submit."""

    driver: Driver


class Tap:
    """The traces of one device: one driver in front of its own serves them all.

    Thread-safety: any thread. The lock guards what is put in and taken out; events do not take it.
    """

    def __init__(self, driver: Driver, submitter: Submits, timelines: Mapping[str, Timeline]) -> None:
        self.number = next(_numbers)
        self._driver = driver
        self._submitter = submitter
        self._timelines = dict(timelines)
        self._traced: TracedDriver | None = None
        renew_in_child(self)
        self.renew()

    def renew(self) -> None:
        self._lock = threading.RLock()

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lanes of the device, in its own order."""
        return tuple(self._timelines)

    @property
    def clock(self) -> str:
        """Where times of submissions come from while it is traced."""
        driver = self._driver
        return driver.clock if isinstance(driver, Timing) else "observed"

    def __repr__(self) -> str:
        traced = self._traced
        return line(f"tap of device {self.number}", f"{len(traced.logs)} trace(s)" if traced else "no trace")

    def add(self, log: Log) -> None:
        """Have ``log`` note what the device does from now on."""
        with self._lock:
            traced = self._traced
            if traced is None:
                traced = self._traced = TracedDriver(self._driver, self._timelines, self.number)
                if isinstance(self._driver, Timing):
                    self._driver.time_submissions(True)
            traced.logs = (*traced.logs, log)
            self._submitter.driver = traced
            for timeline in self._timelines.values():
                timeline.signals = traced
                timeline.__class__ = TracedTimeline
            COPIES.add(log)

    def remove(self, log: Log) -> None:
        """Have ``log`` note nothing more, after what has ended by now; idempotent."""
        with self._lock:
            try:
                for timeline in self._timelines.values():
                    timeline.poll()
            finally:
                COPIES.remove(log)
                if (traced := self._traced) is not None:
                    traced.logs = tuple(one for one in traced.logs if one is not log)
                    if not traced.logs:
                        self._take_out()

    def _take_out(self) -> None:
        for timeline in self._timelines.values():
            timeline.__class__ = Timeline
            timeline.signals = self._driver
        self._submitter.driver = self._driver
        self._traced = None
        if isinstance(self._driver, Timing):
            self._driver.time_submissions(False)
