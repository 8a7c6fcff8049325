"""Timelines: the worker says what is done, everybody else waits on a condition."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Generator
from typing import Any

import attrs

from forge3d_core.errors import FenceTimeout, ForgeError, Forked, UsageError
from stranger.clock import Deadline
from stranger.given import whole
from stranger.shield import shielded, wait_for

Callback = Callable[[Any, Exception | None], None]


def fresh(error: Exception) -> Exception:
    """One exception object on many threads would share a traceback."""
    return type(error)(*error.args)


@shielded
@attrs.frozen
class Point:
    timeline: Timeline
    value: int

    @property
    def done(self) -> bool:
        return self.timeline.completed >= self.value

    def wait(self, timeout: float | None = None) -> None:
        self.timeline.wait(self.value, timeout)

    def on_done(self, callback: Callback) -> None:
        self.timeline.call(self, callback)

    def __await__(self) -> Generator[Any, None, None]:
        return self._settled().__await__()

    async def _settled(self) -> None:
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()
        errors: list[Exception | None] = []

        def wake(_point: Point, error: Exception | None) -> None:
            errors.append(error)
            try:
                loop.call_soon_threadsafe(woken.set)
            except RuntimeError:
                pass  # the loop is gone, and whoever awaited with it

        self.on_done(wake)
        await woken.wait()
        if errors[0] is not None:
            raise fresh(errors[0])


@attrs.define(eq=False)
class Timeline:
    name: str
    submitted: int = 0
    completed: int = 0
    failure: Exception | None = None
    _callbacks: list[tuple[Point, Callback]] = attrs.field(factory=list)
    _changed: threading.Condition = attrs.field(factory=threading.Condition)
    _pid: int = attrs.field(factory=os.getpid)

    def point(self, value: int) -> Point:
        value = whole(value, "a timeline value")
        if value < 0:
            raise UsageError(f"a timeline value is an int from 0 up, not {value!r}")
        return Point(self, value)

    def next(self, put: Callable[[Point], None]) -> Point:
        """Give the next value to what ``put`` submits; the caller lets one in at a time."""
        with self._changed:
            if self.failure is not None:
                raise fresh(self.failure)
            point = Point(self, self.submitted + 1)
            put(point)
            self.submitted += 1
            return point

    def complete(self, value: int) -> None:
        with self._changed:
            if self.failure is not None:
                return
            self.completed = value
            due = [entry for entry in self._callbacks if entry[0].value <= value]
            self._callbacks = [entry for entry in self._callbacks if entry[0].value > value]
            self._changed.notify_all()
        tell(due, None)

    def fail(self, error: Exception) -> None:
        with self._changed:
            if self.failure is not None:
                return
            self.failure = error
            due, self._callbacks = self._callbacks, []
            self._changed.notify_all()
        tell(due, error)

    def wait(self, value: int, timeout: float | None) -> None:
        timeout = Deadline(timeout).timeout
        if self.completed >= value:
            return
        self._check()
        with self._changed:
            wait_for(self._changed, lambda: self.completed >= value or self.failure is not None, timeout)
            if self.completed >= value:
                return
            if self.failure is not None:
                raise fresh(self.failure)
            raise FenceTimeout(
                f"lane {self.name!r}: value {value} was not complete within {timeout} s; completed "
                f"{self.completed}, submitted {self.submitted}"
            )

    def call(self, point: Point, callback: Callback) -> None:
        self._check()
        with self._changed:
            waits = self.completed < point.value and self.failure is None
            if waits:
                self._callbacks.append((point, callback))
        if not waits:
            call_back([(point, callback)], self.failure if self.completed < point.value else None)

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise Forked(f"lane {self.name!r} is of process {self._pid}, and nothing completes here")


def as_kernel_error(error: Exception, where: str) -> Exception:
    from forge3d_core.errors import KernelError

    if isinstance(error, ForgeError):
        return error
    return KernelError(f"{where} failed: {type(error).__name__}: {error}")


def tell(due: list[tuple[Point, Callback]], error: Exception | None) -> None:
    """Call back on a thread of their own, so that none of them holds a lane up."""
    if due:
        threading.Thread(target=call_back, args=(due, error), daemon=True).start()


def call_back(due: list[tuple[Point, Callback]], error: Exception | None) -> None:
    for point, callback in due:
        try:
            callback(point, None if error is None else fresh(error))
        except Exception:  # it is the program's own
            logging.getLogger(__name__).exception("a callback of lane %r failed", point.timeline.name)
