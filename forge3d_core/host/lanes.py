"""The lanes of the host machine: a thread for each, one lock over all that they share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import attrs

from forge3d_core.concurrency.threads import OwnThread, start_thread
from forge3d_core.deadline import Deadline
from forge3d_core.driver import Command
from forge3d_core.errors import Closed, DeviceLost, ForgeError, copy_exception
from forge3d_core.foreign import keep, translated
from forge3d_core.host.chaos import Act, Decision, Schedule
from forge3d_core.host.submission import Submission

CATCH_UP_SECONDS = 0.1
JOIN_SECONDS = 1.0
ADVICE = "nothing more runs on it: look at what was submitted, and open the device again"


@attrs.define(eq=False)
class Hold:
    """A gate before a lane: what is queued there does not start until every hold is released.

    Thread-safety: any thread may release, once or more.
    """

    _release: Callable[[Hold], None]

    def release(self) -> None:
        self._release(self)

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


@attrs.define(eq=False)
class LaneState:
    """What one lane has to do, and whether it still can; guarded by the lock of the lanes."""

    changed: threading.Condition
    queue: deque[Submission] = attrs.field(factory=deque)
    holds: set[Hold] = attrs.field(factory=set)
    failure: Exception | None = None
    thread: threading.Thread | None = None


@attrs.define(eq=False)
class Lanes:
    """Runs submissions, in order on each lane, each after the tokens that it names.

    ``run`` carries out commands. The first failure of a lane sticks: what
    comes after it there, and what depends on it elsewhere, fails with the same error.
    """

    names: tuple[str, ...]
    _run: Callable[[Sequence[Command]], None]
    _make_schedule: Callable[[Callable[[str], bool]], Schedule]
    _schedule: Schedule = attrs.field(init=False)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)
    _lanes: dict[str, LaneState] = attrs.field(init=False)
    _outstanding: set[Submission] = attrs.field(init=False, factory=set)
    _submissions: int = attrs.field(init=False, default=0)
    _ended: ForgeError | None = attrs.field(init=False, default=None)
    _closed: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._lanes = {name: LaneState(threading.Condition(self._lock)) for name in self.names}
        self._schedule = self._make_schedule(lambda name: bool(self._lanes[name].holds))

    @property
    def ended(self) -> ForgeError | None:
        """Why nothing runs any more: lost or closed."""
        return self._ended

    @property
    def submissions(self) -> int:
        return self._submissions

    def submit(self, name: str, commands: Sequence[Command], after: Sequence[Submission]) -> Submission:
        lane = self._lanes[name]
        with self._lock:
            if self._ended:
                raise copy_exception(self._ended)
            if lane.thread is None:
                self._start(name, lane)
            self._submissions += 1
            submission = Submission(name, self._submissions, tuple(commands), tuple(after))
            try:
                lane.queue.append(submission)
                self._outstanding.add(submission)
                self._schedule.entered(submission)
                self._announce()
            except BaseException:  # an interrupt: who submits it will never know it, so it does nothing
                submission.let_go()
                raise
        return submission

    def query(self, submission: Submission) -> bool:
        if not submission.landed.is_set():
            with self._lock:
                if not (settled := self._schedule.settled(submission)):
                    self._schedule.nudge()
                    self._announce()
                    settled = self._schedule.settled(submission)
            if settled:  # decided, so the answer must not hang on how fast the lane's thread is
                submission.landed.wait(CATCH_UP_SECONDS)
        return self._landed(submission)

    def wait(self, submission: Submission, seconds: float) -> bool:
        if seconds <= 0:
            return self.query(submission)
        if not submission.landed.is_set():
            with self._lock:
                self._schedule.want(submission)
                self._announce()
            try:
                submission.landed.wait(min(seconds, threading.TIMEOUT_MAX))
            finally:
                with self._lock:
                    self._schedule.unwant(submission)
        return self._landed(submission)

    def hold(self, name: str) -> Hold:
        """Close a gate before the lane ``name`` and return it."""
        hold = Hold(lambda hold: self._release(name, hold))
        with self._lock:
            self._lanes[name].holds.add(hold)
        return hold

    def note(self, act: Act, number: int) -> None:
        with self._lock:
            self._schedule.note(act, "", number)

    def trace(self) -> tuple[Decision, ...]:
        with self._lock:
            return self._schedule.trace()

    def end(self, error: ForgeError) -> None:
        """Fail all that is outstanding with ``error``, and every later submission; the first call counts."""
        with self._lock:
            if self._ended is None:
                self._ended = error
                if isinstance(error, DeviceLost):
                    self._schedule.note("lose", "", self._submissions)
            self._fail_outstanding(self._ended)

    def close(self, timeout: float, closed: Closed, halt: threading.Event) -> None:
        """Open the gates, let queued work end for up to ``timeout`` seconds, then end the threads.

        A kernel that runs longer is left behind on its daemon thread.
        """
        deadline = Deadline.after(timeout)
        patience = 0.0 if self._closed else JOIN_SECONDS  # once is enough
        self._closed = True
        with self._lock:
            for lane in self._lanes.values():
                lane.holds.clear()
            self._schedule.drain()
            self._announce()
            outstanding = tuple(self._outstanding)
        try:
            for submission in outstanding:
                submission.landed.wait(deadline.left())
        finally:  # an interrupt gives up waiting for the work, and nothing else
            halt.set()
            self.end(closed)
            deadline = Deadline.after(patience)
            for lane in self._lanes.values():
                if lane.thread is not None and lane.thread is not threading.current_thread():
                    lane.thread.join(deadline.left())

    def _landed(self, submission: Submission) -> bool:
        if submission.retired:
            return True
        if isinstance(self._ended, DeviceLost):
            raise copy_exception(self._ended)
        if not submission.landed.is_set():
            return False
        if submission.error is not None:
            raise copy_exception(submission.error)
        return True

    def _release(self, name: str, hold: Hold) -> None:
        with self._lock:
            self._lanes[name].holds.discard(hold)
            self._schedule.pursue()
            self._announce()

    def _start(self, name: str, lane: LaneState) -> None:
        """Give the lane its thread, once it has started: one whose start is interrupted serves nobody."""
        thread = OwnThread(target=self._serve, args=(lane,), name=f"forge3d-host-{name}", daemon=True)
        try:
            start_thread(thread)
        except RuntimeError as error:
            raise ForgeError(
                f"lane {name!r} needs a thread and none can start ({error}); nothing was submitted: "
                "let other threads end first"
            ) from error
        lane.thread = thread

    def _serve(self, lane: LaneState) -> None:
        while (submission := self._take(lane)) is not None:
            error = self._inherited(lane, submission)
            if error is None:
                try:
                    self._run(submission.commands)
                except BaseException as raised:  # not even an exit ends the lane without a word
                    keep(failure := translated(raised, f"lane {submission.lane!r}", ADVICE))
                    assert isinstance(failure, Exception)
                    error = failure
            self._finish(lane, submission, error)

    def _take(self, lane: LaneState) -> Submission | None:
        with self._lock:
            while self._ended is None and lane.thread is threading.current_thread():
                if lane.queue and not self._gated(lane) and self._schedule.may_start(lane.queue[0]):
                    return lane.queue.popleft()
                lane.changed.wait()
            return None

    def _gated(self, lane: LaneState) -> bool:
        """A gate keeps work from starting, not what the schedule has already let through."""
        head = lane.queue[0]
        return bool(lane.holds) and not (head.fate is not None and head.fate.started)

    def _inherited(self, lane: LaneState, submission: Submission) -> Exception | None:
        errors = (earlier.error for earlier in submission.after)
        return lane.failure or next((error for error in errors if error is not None), None)

    def _finish(self, lane: LaneState, submission: Submission, error: Exception | None) -> None:
        with self._lock:
            submission.ran = True
            submission.let_go()
            if submission.landed.is_set():  # the device was lost or closed under it
                return
            if error is not None:
                submission.error = lane.failure = error
            self._schedule.ran(submission)
            self._announce()

    def _announce(self) -> None:
        """Tell the host what has landed and the lanes that something has changed."""
        for submission in self._schedule.landings():
            self._outstanding.discard(submission)
            submission.landed.set()
        for lane in self._lanes.values():
            if lane.queue:
                lane.changed.notify()

    def _fail_outstanding(self, error: ForgeError) -> None:
        for submission in self._outstanding:
            submission.error = submission.error or error
            submission.landed.set()
        self._outstanding.clear()
        self._schedule.clear()
        for lane in self._lanes.values():
            while lane.queue:
                lane.queue.popleft().let_go()
            lane.holds.clear()
            lane.changed.notify()
