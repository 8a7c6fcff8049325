"""The timeline: which submissions of a lane the device has finished, and who waits for them."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Protocol

import attrs

from forge3d_core import protocols
from forge3d_core.arguments import at_least, function, shown
from forge3d_core.concurrency.threads import OwnThread, start_thread
from forge3d_core.deadline import Deadline, seconds
from forge3d_core.errors import FenceTimeout, ForgeError, Forked, StateError, UsageError, copy_exception
from forge3d_core.foreign import from_signal_handler, keep, translated
from forge3d_core.presentation import line, presents
from forge3d_core.timeline.points import Settled, settled

LEASH_SECONDS = 0.05
"""How long a leader waits in the driver before it looks up: a close or a loss elsewhere wakes it by then."""

LOOK_SECONDS = 0.25
"""How often a sleeping wait looks up: for a loss, while nothing is in flight, or for a leader that was
interrupted and could not say so."""

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


@presents(protocols.FencePoint)
@attrs.frozen(eq=True)
class Point:
    """See :class:`forge3d_core.protocols.FencePoint`."""

    timeline: Timeline
    value: int

    def __repr__(self) -> str:
        return line(
            f"point {shown(self.value)} of lane {shown(self.timeline.name)}", self.timeline.tell(self.value)
        )

    @property
    def done(self) -> bool:
        return self.timeline.passed(self.value)

    def wait(self, timeout: float | None = None) -> None:
        self.timeline.wait(self.value, timeout)

    def on_done(self, callback: Settled) -> None:
        function("a point's callback", callback)
        self.timeline.watch(self, callback)

    def __await__(self) -> Generator[Any, None, None]:
        return settled(self).__await__()


@presents(protocols.Timeline)
@attrs.define(eq=False)
class Timeline:
    """See :class:`forge3d_core.protocols.Timeline`.

    Waiting threads do the polling themselves: whoever wants the lowest value *leads*, that is, waits in
    the driver, the rest sleep on the condition, and whoever is woken first leads next. Callbacks and
    coroutines have no thread to lend, so the first of them starts a watcher thread, which waits like
    any other, alone calls back, and goes away when idle. So no callback ever runs under a lock of
    whoever happened to poll.

    An interrupt (Ctrl-C) may come between any two steps of Python code, and costs its own thread's wait,
    nothing else: the lock is C code up to the block that it guards, and who polls or leads is noted under
    a key of that call, which is taken back whatever happens.
    """

    name: str
    signals: Signals
    on_failure: Callable[[Exception], None] = attrs.field(default=lambda _error: None)
    look: Callable[[], None] = attrs.field(default=lambda: None)  # raises when the device is lost
    _submitted: int = attrs.field(default=0, init=False)
    _completed: int = attrs.field(default=0, init=False)
    _failure: Exception | None = attrs.field(default=None, init=False)
    _pending: deque[tuple[int, Any]] = attrs.field(factory=deque, init=False)
    _poller: object | None = attrs.field(default=None, init=False)  # the call that asks the driver now
    _led: dict[object, int] = attrs.field(factory=dict, init=False)  # what each leader waits for
    _callbacks: list[tuple[int, int, Point, Settled]] = attrs.field(factory=list, init=False)
    _order: itertools.count[int] = attrs.field(factory=itertools.count, init=False)
    _watcher: threading.Thread | None = attrs.field(default=None, init=False)
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    _changed: threading.Condition = attrs.field(init=False)
    _pid: int = attrs.field(factory=os.getpid, init=False)

    @_changed.default
    def _over_the_lock(self) -> threading.Condition:
        return threading.Condition(self._lock)

    def __repr__(self) -> str:
        return line(f"timeline of lane {shown(self.name)}: {self.counts}", self.tell(self._completed + 1, ""))

    @property
    def counts(self) -> str:
        """How much is known to be done."""
        return f"{self._completed} of {self._submitted} seen done"

    @property
    def last_known(self) -> int:
        """The highest value known to be complete; asks nothing."""
        return self._completed

    def tell(self, value: int, pending: str = "pending when last asked") -> str:
        """Return what is known of ``value`` in a word, without asking the driver."""
        if self._completed >= value:
            return "done"
        failure = self._failure
        return pending if failure is None else f"failed: {type(failure).__name__}"

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
        return Point(self, at_least(0, "a timeline value", value))

    def passed(self, value: int) -> bool:
        """Whether ``value`` is complete; a value already passed costs no driver call."""
        if self._completed >= value:
            return True
        self.poll()
        return self._completed >= value

    def enqueue(self, submit: Callable[[], Any]) -> Point:
        """Call ``submit`` and give its token the next value. The caller serializes submissions.

        What is no error of forge3d's fails the lane: nobody can tell what the device does with the work.
        """
        self.check()
        try:
            token = submit()
        except ForgeError:
            raise  # refused: nothing has changed
        except Exception as error:
            self._meet(error, "submit")
            failure = copy_exception(self._failure or error)
            raise failure from failure.__cause__
        with self._lock:
            self._submitted += 1
            self._pending.append((self._submitted, token))
            self._changed.notify_all()  # somebody may wait for this value already
            return Point(self, self._submitted)

    def token(self, value: int) -> Any | None:
        """Return the token of a submitted value for the device to wait on, None if it is complete."""
        with self._lock:
            if value <= self._completed:
                return None
            if self._failure is not None:
                raise copy_exception(self._failure)
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
            raise copy_exception(self._failure)

    def poll(self) -> None:
        """Take note of what the device has finished. Never blocks: one poller at a time is enough.

        After a failure there is nothing more to learn, and perhaps no driver any more to ask.
        """
        if not self._pending or self._failure is not None or self._pid != os.getpid():
            return
        me = object()
        try:
            with self._lock:
                if self._poller is None:
                    self._poller = me
            while self._poller is me:
                finished, error = self._finished()
                if finished and not self._publish(finished):
                    break
                if error is not None:
                    raise error
                if not finished:
                    break
        except Exception as error:
            self._meet(error, "query")
        finally:
            if self._poller is me:
                self._poller = None

    def wait(self, value: int, timeout: float | None = None) -> None:
        """Block until ``value`` is complete; see :meth:`FencePoint.wait`."""
        if self.passed(value):
            if timeout is not None:
                seconds(timeout)  # what is no number is refused, whether there is a wait or not
            return
        deadline = Deadline.after(timeout)
        self.check()
        me = object()
        try:
            while (lead := self._rest(me, value, deadline)) is not None:
                target, token = lead
                if target == NOTHING_PENDING:
                    self._look()
                    continue
                try:
                    self.signals.wait(token, deadline.left(LEASH_SECONDS))
                except Exception as error:
                    if from_signal_handler(error):
                        raise
                    self.poll()  # what was complete before stays complete
                    if self._completed < target and not isinstance(error, FenceTimeout):
                        self._meet(error, "wait")
                    keep(error)  # the driver may raise it again
                else:
                    self.poll()
        finally:
            if self._led.pop(me, None) is not None:
                with self._lock:
                    self._changed.notify_all()

    def watch(self, point: Point, callback: Settled) -> None:
        """Call back once when the point is settled; see :meth:`FencePoint.on_done`."""
        failure: Exception | None = None
        if not self.passed(point.value):
            try:
                self.check()
            except ForgeError as error:  # before the lock, which in a forked child nobody would release
                failure = error.with_traceback(None)
            else:
                with self._lock:
                    if self._completed < point.value and self._failure is None:
                        self._ensure_watcher()
                        heapq.heappush(self._callbacks, (point.value, next(self._order), point, callback))
                        self._changed.notify_all()
                        return
                    failure = self._error_of(point)
        callback(point, failure)

    def forget(self, callback: Settled) -> None:
        """Do not call ``callback`` any more: who waited has given up, and the point may never come."""
        if self._pid != os.getpid():
            return
        with self._lock:
            rest = [entry for entry in self._callbacks if entry[-1] is not callback]
            heapq.heapify(rest)
            self._callbacks = rest

    def fail(self, error: Exception) -> None:
        """Make ``error`` the timeline's failure unless it has one, and wake everybody."""
        keep(error)
        with self._lock:
            if self._failure is None:
                self._failure = error
            self._changed.notify_all()

    def _meet(self, error: BaseException, call: str) -> None:
        """Make what a driver's ``call`` raised the failure; raise it if it is a signal handler's."""
        failure = translated(
            error,
            f"lane {self.name!r}: the driver's {call}",
            "nothing more runs on this lane: open the device again, and tell the backend's author",
        )
        if not isinstance(failure, ForgeError):
            raise failure
        self.fail(failure)
        self.on_failure(failure)

    def _error_of(self, point: Point) -> Exception | None:
        """Return what a settled point raises, an error for each who is told; the lock is held."""
        if self._completed >= point.value or self._failure is None:
            return None
        return copy_exception(self._failure)

    def _look(self) -> None:
        """Learn of a loss that no submission can tell of, as there is none in flight."""
        try:
            self.look()
        except Exception as error:
            self._meet(error, "check")

    def _rest(self, me: object, value: int, deadline: Deadline) -> tuple[int, Any] | None:
        """Sleep until ``value`` is settled (None) or it is this call's turn to lead (value and token).

        With nothing in flight there is nothing to lead to: then it is time to look at the device.
        """
        with self._lock:
            while self._completed < value:
                self.check()
                remaining = deadline.left(LOOK_SECONDS)
                if remaining <= 0:
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
                    others = self._led.copy()  # who is interrupted takes itself out without the lock
                    others.pop(me, None)
                    if all(target < led for led in others.values()):  # who leads to a later value is no help
                        self._led[me] = target
                        return target, self._pending[target - newest - 1][1]
                self._led.pop(me, None)
                self._changed.wait(remaining)
                if not self._pending and self._completed < value:
                    return NOTHING_PENDING, None
        return None

    def _finished(self) -> tuple[list[tuple[int, Any]], Exception | None]:
        """Return the leading submissions that are complete, some at a time, and the failure behind them.

        Only the poller calls this.
        """
        with self._lock:
            head = list(itertools.islice(self._pending, 64))
        finished: list[tuple[int, Any]] = []
        for entry in head:
            try:
                if not self.signals.query(entry[1]):
                    break
            except Exception as error:
                return finished, error  # what was complete before the failure stays complete
            finished.append(entry)
        return finished, None

    def _publish(self, finished: list[tuple[int, Any]]) -> bool:
        with self._lock:
            if self._failure is not None:
                return False  # it was first: what was not complete by then stays incomplete
            self._completed = max(self._completed, finished[-1][0])
            while self._pending and self._pending[0][0] <= self._completed:
                self._pending.popleft()
            self._changed.notify_all()
        for _, token in finished:
            try:
                self.signals.retire(token)
            except Exception as error:
                self._meet(error, "retire")
        return self._failure is None

    def _ensure_watcher(self) -> None:
        if self._watcher is not None and self._watcher.is_alive():
            return
        watcher = OwnThread(target=self._watch, name=f"forge3d-watch-{self.name}", daemon=True)
        try:
            start_thread(watcher)
        except RuntimeError as error:
            raise StateError(
                f"lane {self.name!r}: no thread could be started that calls back ({error}); end some "
                "threads, or wait() for the point, which needs none"
            ) from error
        self._watcher = watcher

    def _watch(self) -> None:
        while True:
            with self._lock:
                self._changed.wait_for(
                    lambda: self._callbacks or self._failure is not None, WATCH_IDLE_SECONDS
                )
                if not self._callbacks:
                    self._watcher = None
                    return
                following = self._completed + 1  # not the lowest wanted: a lower one may be yet to come
            if not self._call_back():
                try:
                    self.wait(following, WATCH_IDLE_SECONDS)
                except ForgeError:
                    pass  # a failure has made the callbacks due; else perhaps nobody waits any more
                except BaseException as error:  # a driver that calls sys.exit(): here no program means it
                    self._meet(error, "wait")

    def _call_back(self) -> bool:
        """Call the first callback if it is due; whether it was."""
        with self._lock:
            if not self._callbacks or (self._callbacks[0][0] > self._completed and self._failure is None):
                return False
            *_, point, callback = heapq.heappop(self._callbacks)
            error = self._error_of(point)
        try:
            callback(point, error)
        except BaseException:  # SystemExit included: the others still have to hear
            _log.exception("a callback of lane %r, value %d, failed", self.name, point.value)
        return True
