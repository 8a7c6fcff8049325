"""The timeline: which submissions of a lane the device has finished, and who waits for them."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol

import attrs

from forge3d_core import protocols
from forge3d_core.errors import Closed, FenceTimeout, ForgeError, Forked, UsageError, again

Settled = Callable[[protocols.FencePoint, Exception | None], None]

LEASH_SECONDS = 0.05
"""How long a leader waits in the driver before it looks up: a close or a loss elsewhere wakes it by then."""

LOOK_SECONDS = 0.25
"""How often a wait for what nobody has submitted looks whether the device is still there."""

NOTHING_PENDING = 0
"""In place of a value to lead to; values start at 1."""

WATCH_IDLE_SECONDS = 2.0
"""How long the watcher thread stays without a callback to watch for."""

_log = logging.getLogger(__name__)


class Signals(Protocol):
    """The part of a driver that a timeline needs."""

    def query(self, token: Any) -> bool: ...

    def wait(self, token: Any, seconds: float) -> bool: ...

    def retire(self, token: Any) -> None: ...


@attrs.frozen(eq=True)
class Point:
    """A value of a :class:`Timeline`; see :class:`forge3d_core.protocols.FencePoint`."""

    timeline: Timeline
    value: int

    @property
    def done(self) -> bool:
        return self.timeline.passed(self.value)

    def wait(self, timeout: float | None = None) -> None:
        self.timeline.wait(self.value, timeout)

    def on_done(self, callback: Settled) -> None:
        self.timeline.watch(self, callback)

    def __await__(self) -> Generator[Any, None, None]:
        return settled(self).__await__()


async def settled(point: protocols.FencePoint) -> None:
    """Wait for a point under asyncio; works with any backend's point."""
    if point.done:
        return
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def resolve(error: Exception | None) -> None:
        if not future.done():
            future.set_exception(again(error)) if error else future.set_result(None)

    def wake(_point: protocols.FencePoint, error: Exception | None) -> None:
        try:
            loop.call_soon_threadsafe(resolve, error)
        except RuntimeError:
            pass  # the loop closed while the device worked: nobody is left to tell

    point.on_done(wake)
    await future


@attrs.define(eq=False)
class Timeline:
    """See :class:`forge3d_core.protocols.Timeline`.

    Waiting threads do the polling themselves: whoever wants the lowest value *leads*, that is, waits in
    the driver, the rest sleep on the condition, and whoever is woken first leads next. Callbacks and
    coroutines have no thread to lend, so the first of them starts a watcher thread, which waits like
    any other, alone calls back, and goes away when idle. So no callback ever runs under a lock of
    whoever happened to poll.
    """

    name: str
    signals: Signals
    on_failure: Callable[[Exception], None] = attrs.field(default=lambda _error: None)
    look: Callable[[], None] = attrs.field(default=lambda: None)  # raises when the device is lost
    _submitted: int = attrs.field(default=0, init=False)
    _completed: int = attrs.field(default=0, init=False)
    _failure: Exception | None = attrs.field(default=None, init=False)
    _pending: deque[tuple[int, Any]] = attrs.field(factory=deque, init=False)
    _led: list[int] = attrs.field(factory=list, init=False)  # values that leaders wait for in the driver
    _callbacks: list[tuple[int, int, Point, Settled]] = attrs.field(factory=list, init=False)
    _order: itertools.count[int] = attrs.field(factory=itertools.count, init=False)
    _due: deque[tuple[Point, Settled, Exception | None]] = attrs.field(factory=deque, init=False)
    _watcher: threading.Thread | None = attrs.field(default=None, init=False)
    _changed: threading.Condition = attrs.field(factory=threading.Condition, init=False)
    _polling: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _pid: int = attrs.field(factory=os.getpid, init=False)

    @property
    def submitted(self) -> int:
        return self._submitted

    @property
    def completed(self) -> int:
        self.poll()
        return self._completed

    @property
    def failure(self) -> Exception | None:
        return self._failure

    def point(self, value: int) -> Point:
        if not isinstance(value, int) or value < 0:
            raise UsageError(f"a timeline value is an int from 0 up, not {value!r}")
        return Point(self, value)

    def passed(self, value: int) -> bool:
        """Whether ``value`` is complete; a value already passed costs no driver call."""
        if self._completed >= value:
            return True
        self.poll()
        return self._completed >= value

    def enqueue(self, submit: Callable[[], Any]) -> Point:
        """Call ``submit`` and give its token the next value. The caller serializes submissions."""
        self.check()
        token = submit()
        with self._changed:
            self._submitted += 1
            self._pending.append((self._submitted, token))
            self._changed.notify_all()  # somebody may wait for this value already
            return Point(self, self._submitted)

    def token(self, value: int) -> Any | None:
        """Return the token of a submitted value for the device to wait on, None if it is complete."""
        with self._changed:
            if value <= self._completed:
                return None
            if self._failure is not None:
                raise again(self._failure)
            if value > self._submitted:
                raise UsageError(
                    f"point {value} of lane {self.name!r} is not submitted yet (the newest is "
                    f"{self._submitted}); the device can only wait for submitted work, the host may "
                    "wait for the future"
                )
            return self._pending[value - self._submitted - 1][1]

    def check(self) -> None:
        """Raise the failure, if there is one; in a forked child, which has neither lane nor driver, that."""
        if self._pid != os.getpid():
            raise Forked(
                f"lane {self.name!r} belongs to process {self._pid}, the parent; GPU state does not survive "
                "a fork: wait there, or open a device in the child"
            )
        if self._failure is not None:
            raise again(self._failure)

    def poll(self) -> None:
        """Take note of what the device has finished. Never blocks: one poller at a time is enough.

        After a failure there is nothing more to learn, and perhaps no driver any more to ask.
        """
        if not self._pending or self._failure is not None or self._pid != os.getpid():
            return
        if not self._polling.acquire(blocking=False):
            return
        failure: Exception | None = None
        try:
            while (finished := self._finished()) and self._publish(finished):
                pass
        except ForgeError as error:
            failure = error
        finally:
            self._polling.release()
        if failure is not None:
            self.fail(failure)
            self.on_failure(failure)

    def wait(self, value: int, timeout: float | None = None) -> None:
        """Block until ``value`` is complete; see :meth:`FencePoint.wait`."""
        if self.passed(value):
            return
        self.check()
        deadline = None if timeout is None else time.monotonic() + timeout
        while (lead := self._rest(value, deadline)) is not None:
            target, token = lead
            if target == NOTHING_PENDING:
                self._look()
                continue
            try:
                try:
                    self.signals.wait(token, _remaining(deadline, LEASH_SECONDS))
                except ForgeError:
                    pass  # poll meets it again and makes it stick
                self.poll()
            finally:
                with self._changed:
                    self._led.remove(target)
                    self._changed.notify_all()

    def watch(self, point: Point, callback: Settled) -> None:
        """Call back once when the point is settled; see :meth:`FencePoint.on_done`."""
        failure: Exception | None = None
        if not self.passed(point.value):
            try:
                self.check()
            except ForgeError as error:  # before the lock, which in a forked child nobody would release
                failure = error
            else:
                with self._changed:
                    if self._completed < point.value and self._failure is None:
                        heapq.heappush(self._callbacks, (point.value, next(self._order), point, callback))
                        self._ensure_watcher()
                        self._changed.notify_all()
                        return
                    failure = None if self._completed >= point.value else self._failure
        callback(point, failure)

    def fail(self, error: Exception) -> None:
        """Make ``error`` the timeline's failure unless it has one, and wake everybody."""
        with self._changed:
            if self._failure is None:
                self._failure = error
            while self._callbacks:
                *_, point, callback = heapq.heappop(self._callbacks)
                self._due.append((point, callback, self._failure))
            self._changed.notify_all()

    def _look(self) -> None:
        """Learn of a loss that no submission can tell of, as there is none in flight."""
        try:
            self.look()
        except ForgeError as error:
            self.fail(error)
            self.on_failure(error)

    def _rest(self, value: int, deadline: float | None) -> tuple[int, Any] | None:
        """Sleep until ``value`` is settled (None) or it is this thread's turn to lead (value and token).

        With nothing in flight there is nothing to lead to: then it is time to look at the device.
        """
        with self._changed:
            while self._completed < value:
                self.check()
                remaining = _remaining(deadline)
                if remaining is not None and remaining <= 0:
                    raise FenceTimeout(
                        f"lane {self.name!r}: value {value} was not complete in time; completed "
                        f"{self._completed}, submitted {self._submitted}, "
                        + (
                            f"{len(self._pending)} submission(s) outstanding"
                            if value <= self._submitted
                            else f"value {value} has not been submitted"
                        )
                    )
                if self._pending:
                    newest = self._pending[-1][0]
                    target = min(value, newest)
                    if all(target < led for led in self._led):  # who leads to a later value is no help
                        self._led.append(target)
                        return target, self._pending[target - newest - 1][1]
                if not self._pending:
                    self._changed.wait(_remaining(deadline, LOOK_SECONDS))
                    if not self._pending and self._completed < value:
                        return NOTHING_PENDING, None
                    continue
                self._changed.wait(remaining)
        return None

    def _finished(self) -> list[tuple[int, Any]]:
        """Return the leading submissions that are complete, some at a time; only the poller calls this."""
        with self._changed:
            head = list(itertools.islice(self._pending, 64))
        finished: list[tuple[int, Any]] = []
        for entry in head:
            try:
                if not self.signals.query(entry[1]):
                    break
            except ForgeError:
                if not finished:
                    raise
                break  # what was complete before the failure stays complete; the next call meets it again
            finished.append(entry)
        return finished

    def _publish(self, finished: list[tuple[int, Any]]) -> bool:
        with self._changed:
            if self._failure is not None:
                return False  # it was first: what was not complete by then stays incomplete
            for _ in finished:
                self._pending.popleft()
            self._completed = finished[-1][0]
            while self._callbacks and self._callbacks[0][0] <= self._completed:
                *_, point, callback = heapq.heappop(self._callbacks)
                self._due.append((point, callback, None))
            self._changed.notify_all()
        for _, token in finished:
            self.signals.retire(token)
        return True

    def _ensure_watcher(self) -> None:
        if self._watcher is None:
            name = f"forge3d-watch-{self.name}"
            self._watcher = threading.Thread(target=self._watch, name=name, daemon=True)
            self._watcher.start()

    def _watch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._callbacks or self._due or self._failure is not None, WATCH_IDLE_SECONDS
                )
                if not self._callbacks and not self._due:
                    self._watcher = None
                    return
                following = self._completed + 1  # not the lowest wanted: a lower one may be yet to come
            while self._due:
                self._tell(*self._due.popleft())
            if self._callbacks:
                try:
                    self.wait(following)
                except ForgeError:
                    pass  # a failure has made the callbacks due

    def _tell(self, point: Point, callback: Settled, error: Exception | None) -> None:
        try:
            callback(point, error)
        except Exception:  # the others still have to hear
            _log.exception("a callback of lane %r, value %d, failed", self.name, point.value)


def wait_all(points: Iterable[protocols.FencePoint], timeout: float | None = None) -> None:
    """Wait until every point is complete. Raises as a single wait does; ``timeout`` covers them all."""
    deadline = None if timeout is None else time.monotonic() + timeout
    for point in points:
        point.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))


def wait_any(points: Iterable[protocols.FencePoint], timeout: float | None = None) -> protocols.FencePoint:
    """Wait until some point is complete and return it. The first to be settled decides: its failure raises.

    Raises :class:`FenceTimeout` naming the lanes, :class:`UsageError` without points.
    """
    candidates = list(points)
    if not candidates:
        raise UsageError("wait_any needs at least one point")
    woken = threading.Event()
    first: list[tuple[protocols.FencePoint, Exception | None]] = []

    def settle(point: protocols.FencePoint, error: Exception | None) -> None:
        first.append((point, error))
        woken.set()

    for point in candidates:
        if point.done:
            return point
    for point in candidates:
        point.on_done(settle)
    if not woken.wait(timeout):
        lanes = ", ".join(f"{p.timeline.name!r} value {p.value}" for p in candidates)
        raise FenceTimeout(f"none of {len(candidates)} points was complete within {timeout} s: {lanes}")
    point, error = first[0]
    if error is not None:
        raise again(error)
    return point


def closed_error(what: str) -> Closed:
    """The failure that a timeline gets when its device closes."""
    return Closed(f"{what} was closed")


def _remaining(deadline: float | None, most: float | None = None) -> Any:
    if deadline is None:
        return most
    left = deadline - time.monotonic()
    return max(0.0, min(left, most)) if most is not None else left
