"""The timeline: which submissions of a lane the device has finished, and the threads that wait for them."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs

from forge3d_core import protocols
from forge3d_core.arguments import at_least, shown
from forge3d_core.deadline import NEVER, Deadline, seconds
from forge3d_core.errors import FenceTimeout, ForgeError, Forked, UsageError, copy_exception
from forge3d_core.foreign import from_signal_handler, keep, translated
from forge3d_core.forking import renew_in_child
from forge3d_core.presentation import line, presents
from forge3d_core.timeline.point import Point
from forge3d_core.timeline.points import Settled
from forge3d_core.timeline.signals import Signals
from forge3d_core.timeline.watcher import Watcher, call_back

__all__ = ["Point", "Timeline"]

LEASH_SECONDS = 0.05
"""How long a leader waits in the driver before it looks up: a close or a loss elsewhere wakes it by then."""

LOOK_SECONDS = 0.25
"""How often a sleeping wait looks up: for a loss, while nothing is in flight, or for a leader that was
interrupted and could not say so."""

BACKLOG, POLLED = 64, 3
"""Past so many submissions that no caller asks about, every second one asks about so many, or all stay."""


@presents(protocols.Timeline)
@attrs.define(eq=False)
class Timeline:
    """See :class:`forge3d_core.protocols.Timeline`.

    ``last_known`` is the highest value known to be complete; reading it asks nothing.

    Waiting threads do the polling themselves. The one with the lowest value *leads*, that is, waits in the
    driver; the others sleep until a value completes, the timeline fails or a leader ends, and then see who
    leads next. Callbacks and coroutines have no thread to lend: see :class:`Watcher`.

    The lock is held while the state is read and changed, never over a call of the driver. A leader is noted
    in ``_led`` under a key of its call, which it takes back however the call ends. The thread that takes a
    token off ``_pending`` retires it.
    """

    name: str
    signals: Signals
    on_failure: Callable[[Exception], None] = attrs.field(default=lambda _error: None)
    check_device: Callable[[], None] = attrs.field(default=lambda: None)  # raises when the device is lost
    last_known: int = attrs.field(default=0, init=False)
    failure: Exception | None = attrs.field(default=None, init=False)
    _pending: deque[tuple[int, Any]] = attrs.field(factory=deque, init=False)  # all that was submitted since
    _led: dict[object, int] = attrs.field(factory=dict, init=False)  # what each leader waits for
    _sleepers: list[threading.Lock] = attrs.field(factory=list, init=False)  # each taken until it may go on
    _watcher: Watcher | None = attrs.field(default=None, init=False)
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    _pid: int = attrs.field(factory=os.getpid, init=False)

    def __attrs_post_init__(self) -> None:
        renew_in_child(self)

    def __repr__(self) -> str:
        return line(f"timeline of lane {shown(self.name)}: {self.counts}", self.tell(self.last_known + 1, ""))

    @property
    def counts(self) -> str:
        """How much is known to be done."""
        return f"{self.last_known} of {self.submitted} seen done"

    def tell(self, value: int, pending: str = "pending when last asked") -> str:
        """Return what is known of ``value`` in a word, without asking the driver."""
        if self.last_known >= value:
            return "done"
        return pending if self.failure is None else f"failed: {type(self.failure).__name__}"

    @property
    def submitted(self) -> int:
        with contextlib.suppress(IndexError):
            return self._pending[-1][0]
        return self.last_known

    @property
    def completed(self) -> int:
        self.poll()
        return self.last_known

    def point(self, value: int) -> Point:
        return Point(self, at_least(0, "a timeline value", value))

    def passed(self, value: int) -> bool:
        """Whether ``value`` is complete; a value already passed costs no driver call."""
        if self.last_known < value:
            self.poll()
        return self.last_known >= value

    def enqueue(self, submit: Callable[..., Any], *arguments: Any) -> Point:
        """Call ``submit`` and give its token the next value. The caller serializes submissions.

        What is no error of forge3d's fails the lane: it is not known what the device does with the work.
        """
        if self.failure is not None:
            raise copy_exception(self.failure)
        try:
            token = submit(*arguments)
        except ForgeError:
            raise  # refused: nothing has changed
        except Exception as error:
            self.meet(error, "submit")
            failure = copy_exception(self.failure or error)
            raise failure from failure.__cause__
        with self._lock:
            value = (self._pending[-1][0] if self._pending else self.last_known) + 1
            self._pending.append((value, token))
            if self._sleepers:
                self._wake()  # one may wait for this value already
        if len(self._pending) > BACKLOG and not value % 2:
            self.poll(POLLED)
        return Point(self, value)

    def token(self, value: int) -> Any | None:
        """Return the token of a submitted value for the device to wait on, None if it is complete."""
        with self._lock:
            if value <= self.last_known:
                return None
            self.check()
            submitted = self.submitted
            if value > submitted:
                raise UsageError(
                    f"point {value} of lane {self.name!r} is not submitted yet (the newest is "
                    f"{submitted}); the device can only wait for submitted work, the host may "
                    "wait for the future"
                )
            return self._pending[value - submitted - 1][1]

    def check(self) -> None:
        """Raise the failure, if there is one."""
        if self.failure is not None:
            raise copy_exception(self.failure)

    def poll(self, most: float = math.inf) -> None:
        """Take note of what the device has finished, of ``most`` submissions. Never blocks.

        After a failure there is nothing more to learn, and perhaps no driver any more to ask.
        """
        unretired: Exception | None = None
        try:
            while self._pending and self.failure is None and most > 0:
                most -= 1
                try:
                    value, token = self._pending[0]
                except IndexError:
                    break  # another thread has taken the last
                if not self.signals.query(token):
                    break
                if self._pass(value):
                    try:
                        self.signals.retire(token)
                    except Exception as error:  # what is complete besides, stays complete
                        unretired = unretired or error
        except Exception as error:
            self.meet(error, "query")
        if unretired is not None:
            self.meet(unretired, "retire")

    def wait(self, value: int, timeout: float | None = None, over: Callable[[], bool] | None = None) -> None:
        """Block until ``value`` is complete; see :meth:`FencePoint.wait`.

        Return also once ``over`` says so: it is asked at each look up, and when :meth:`nudge` was called.
        """
        if self.last_known >= value:
            if timeout is not None:
                seconds(timeout)  # what is no number is refused, whether there is a wait or not
            return
        deadline = NEVER if timeout is None else Deadline.after(timeout)
        me = object()
        try:
            while deadline is NEVER or not self._late(value, deadline):
                with self._lock:
                    if self.last_known >= value:
                        return
                    if self.failure is not None:
                        raise copy_exception(self.failure)
                    sleeper = None
                    newest = self._pending[-1][0] if self._pending else 0
                    target = value if value < newest else newest
                    if newest and (not self._led or self._may_lead(target)):
                        self._led[me] = target
                        token = self._pending[target - newest - 1][1]
                    else:
                        sleeper = threading.Lock()
                        sleeper.acquire()
                        self._sleepers.append(sleeper)
                if sleeper is not None:
                    self._sleep(sleeper, deadline)
                    if over is not None and over():
                        return
                    continue
                try:
                    passed = self.signals.wait(
                        token, LEASH_SECONDS if deadline is NEVER else deadline.left(LEASH_SECONDS)
                    )
                except Exception as error:
                    self._wait_raised(error, target)
                    passed = False
                del self._led[me]
                if not passed:
                    if over is not None and over():
                        return
                    continue
                if self._pass(target):
                    try:
                        self.signals.retire(token)
                    except Exception as error:
                        self.poll()
                        self.meet(error, "retire")
                else:
                    self.poll()
        finally:
            if self._led.pop(me, None) is not None:
                with self._lock:
                    self._wake()

    def nudge(self) -> None:
        """Have the waits that sleep ask whether they are over."""
        with self._lock:
            self._wake()

    def watch(self, point: Point, callback: Settled) -> None:
        """Call back once when the point is settled; see :meth:`FencePoint.on_done`."""
        if not self.passed(point.value):
            with self._lock:
                if self.last_known < point.value and self.failure is None:
                    if self._watcher is None:
                        self._watcher = Watcher(self, self._lock)
                    self._watcher.add(point, callback)
                    return
        call_back(point, callback, self.error_of(point.value))

    def forget(self, callback: Settled) -> None:
        """Do not call ``callback`` any more: its caller has given up, and the point may never come."""
        with self._lock:
            if self._watcher is not None:
                self._watcher.forget(callback)

    def fail(self, error: Exception) -> None:
        """Make ``error`` the timeline's failure unless it has one, and wake all sleepers."""
        keep(error)
        with self._lock:
            if self.failure is None:
                self.failure = error
            self._wake()

    def meet(self, error: BaseException, call: str) -> None:
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

    def error_of(self, value: int) -> Exception | None:
        """Return what a settled value raises, a copy for each caller."""
        failure = self.failure
        return None if self.last_known >= value or failure is None else copy_exception(failure)

    def renew(self) -> None:
        """Fail in a forked child, which has neither lane nor driver, nor the threads that held the lock."""
        self._lock, self._led, self._sleepers = threading.RLock(), {}, []
        self._watcher = None
        self.failure = Forked(
            f"lane {self.name!r} belongs to process {self._pid}, the parent; GPU state does not survive "
            "a fork: wait there, or open a device in the child"
        )

    def _pass(self, value: int) -> bool:
        """Complete ``value`` if it is next; then the caller retires its token."""
        with self._lock:
            if self.failure is not None or not self._pending or self._pending[0][0] != value:
                return False  # after a failure what was not complete by then stays incomplete
            self.last_known = value
            self._pending.popleft()
            if self._sleepers:
                self._wake()
        return True

    def _may_lead(self, target: int) -> bool:
        """Whether all leaders wait for later values, and so are no help; the lock is held."""
        return all(target < led for led in self._led.copy().values())  # leaders leave without the lock

    def _sleep(self, sleeper: threading.Lock, deadline: Deadline) -> None:
        """Sleep until woken; or after a while look at the device, as a loss may have no other messenger."""
        if sleeper.acquire(timeout=deadline.left(LOOK_SECONDS)):
            return
        with self._lock, contextlib.suppress(ValueError):
            self._sleepers.remove(sleeper)
        if self._pending:
            self.poll()
            return
        try:
            self.check_device()
        except Exception as error:
            self.meet(error, "check")

    def _wake(self) -> None:
        """Have all sleepers see what has changed; the lock is held."""
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            sleeper.release()

    def _late(self, value: int, deadline: Deadline) -> bool:
        """Whether ``value`` is complete at the end of the time; False before that, else raise."""
        if deadline.left() > 0:
            return False
        if self.passed(value):
            return True
        self.check()
        with self._lock:
            submitted, outstanding = self.submitted, len(self._pending)
        raise FenceTimeout(
            f"lane {self.name!r}: value {value} was not complete in time; completed {self.last_known}, "
            f"submitted {submitted}, "
            + (
                f"{outstanding} submission(s) outstanding"
                if value <= submitted
                else f"value {value} has not been submitted"
            )
        )

    def _wait_raised(self, error: Exception, target: int) -> None:
        """Take note of what the driver's wait raised; raise it if it is a signal handler's."""
        if from_signal_handler(error):
            raise error
        self.poll()  # what was complete before stays complete
        if self.last_known < target and not isinstance(error, FenceTimeout):
            self.meet(error, "wait")
        keep(error)  # the driver may raise it again
