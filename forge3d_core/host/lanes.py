"""The lanes of the host machine: a thread for each, one lock over all that they share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import attrs

from forge3d_core.concurrency.threads import OwnThread, start_thread
from forge3d_core.deadline import Deadline
from forge3d_core.driver import Command
from forge3d_core.errors import Closed, DeviceLost, ForgeError, copy_exception
from forge3d_core.foreign import keep, translated
from forge3d_core.host.submission import Submission

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


def _taken() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@attrs.define(eq=False)
class Lane:
    """What one lane has to do, and whether it still can; guarded by the lock of the lanes.

    Its thread sleeps on ``bell`` while ``asleep``, and :meth:`Lanes.wake` rings once for each time.
    """

    queue: deque[Submission] = attrs.field(factory=deque)
    holds: set[Hold] = attrs.field(factory=set)
    failure: Exception | None = None
    thread: threading.Thread | None = None
    bell: threading.Lock = attrs.field(factory=_taken)
    asleep: bool = False

    def wake(self) -> None:
        """Have the thread look again; the lock is held."""
        if self.asleep:
            self.asleep = False
            self.bell.release()


@attrs.define(eq=False)
class Lanes:
    """Runs submissions, in order on each lane, each after the tokens that it names.

    Every lane runs as soon as it can, and what has run has landed. ``run`` carries out commands. The first
    failure of a lane sticks: what comes after it there, and what depends on it elsewhere, fails with the
    same error.
    """

    names: tuple[str, ...]
    _run: Callable[[Sequence[Command]], None]
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)
    _lanes: dict[str, Lane] = attrs.field(init=False)
    _outstanding: set[Submission] = attrs.field(init=False, factory=set)
    _submissions: int = attrs.field(init=False, default=0)
    _ended: ForgeError | None = attrs.field(init=False, default=None)
    _closed: bool = attrs.field(init=False, default=False)
    timed: int = attrs.field(init=False, default=0)  # how many drivers want the times of submissions

    def __attrs_post_init__(self) -> None:
        self._lanes = {name: Lane() for name in self.names}

    @property
    def ended(self) -> ForgeError | None:
        """Why nothing runs any more: lost or closed."""
        return self._ended

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
                self._entered(lane, submission)
            except BaseException:  # its submitter will never know it, so it does nothing
                submission.let_go()
                raise
        return submission

    def query(self, submission: Submission) -> bool:
        if submission.open and submission.error is None and self._ended is None:
            return True
        return self._outcome(submission)

    def wait(self, submission: Submission, seconds: float) -> bool:
        if not submission.open and seconds > 0:
            submission.wait(min(seconds, threading.TIMEOUT_MAX))
        if submission.open and submission.error is None and self._ended is None:
            return True
        return self._outcome(submission)

    def hold(self, name: str) -> Hold:
        """Close a gate before the lane ``name`` and return it."""
        hold = Hold(lambda hold: self._release(name, hold))
        with self._lock:
            self._lanes[name].holds.add(hold)
        return hold

    def end(self, error: ForgeError) -> None:
        """Fail all that is outstanding with ``error``, and every later submission; the first call counts."""
        with self._lock:
            if self._ended is None:
                self._ended = error
            for submission in self._outstanding:
                submission.error = submission.error or self._ended
                submission.set()
            self._outstanding.clear()
            for lane in self._lanes.values():
                while lane.queue:
                    lane.queue.popleft().let_go()
                lane.holds.clear()
                lane.wake()

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
            self._opened()
            outstanding = tuple(self._outstanding)
        try:
            for submission in outstanding:
                submission.wait(deadline.left())
        finally:
            halt.set()
            self.end(closed)
            deadline = Deadline.after(patience)
            for lane in self._lanes.values():
                if lane.thread is not None and lane.thread is not threading.current_thread():
                    lane.thread.join(deadline.left())

    def _entered(self, lane: Lane, submission: Submission) -> None:
        """Take note that ``submission`` is queued on ``lane``; the lock is held."""
        if lane.asleep:  # as wake(), which the thread that submits need not call
            lane.asleep = False
            lane.bell.release()

    def _may_start(self, lane: Lane, head: Submission) -> bool:
        """Whether ``head``, the first of ``lane``, may run now; the lock is held."""
        if lane.holds:
            return False
        return all(earlier.ran for earlier in head.after)

    def _has_run(self, submission: Submission) -> None:
        """Take note that ``submission`` has run; the lock is held."""
        self._land(submission)

    def _opened(self) -> None:
        """Take note that gates have opened; the lock is held."""
        self._wake()

    def _land(self, submission: Submission) -> None:
        """Tell the host that ``submission`` is over; the lock is held."""
        self._outstanding.discard(submission)
        submission.set()

    def _wake(self) -> None:
        """Have the lanes look again; the lock is held."""
        for lane in self._lanes.values():
            if lane.queue:
                lane.wake()

    def _outcome(self, submission: Submission) -> bool:
        """Return whether ``submission`` has landed; raise what made it fail."""
        if submission.retired:
            return True
        if isinstance(self._ended, DeviceLost):
            raise copy_exception(self._ended)
        if not submission.open:
            return False
        if submission.error is not None:
            raise copy_exception(submission.error)
        return True

    def _release(self, name: str, hold: Hold) -> None:
        with self._lock:
            self._lanes[name].holds.discard(hold)
            self._opened()

    def _start(self, name: str, lane: Lane) -> None:
        """Give the lane its thread, once it has started: one that is not noted ends by itself."""
        thread = OwnThread(target=self._serve, args=(lane,), name=f"forge3d-host-{name}", daemon=True)
        try:
            start_thread(thread)
        except RuntimeError as error:
            raise ForgeError(
                f"lane {name!r} needs a thread and none can start ({error}); nothing was submitted: "
                "let other threads end first"
            ) from error
        lane.thread = thread

    def _serve(self, lane: Lane) -> None:
        while (submission := self._next(lane)) is not None:
            error = self._inherited(lane, submission)
            if error is None:
                try:
                    if self.timed:
                        self._run_timed(submission)
                    else:
                        self._run(submission.commands)
                except BaseException as raised:  # not even an exit ends the lane without a word
                    keep(failure := translated(raised, f"lane {submission.lane!r}", ADVICE))
                    assert isinstance(failure, Exception)
                    error = failure
            self._finish(lane, submission, error)

    def _run_timed(self, submission: Submission) -> None:
        begun = time.perf_counter()
        self._run(submission.commands)
        submission.times = begun, time.perf_counter()

    def _next(self, lane: Lane) -> Submission | None:
        """Return what the lane's thread runs next, sleeping until there is something; None at the end."""
        while True:
            with self._lock:
                if self._ended is not None or lane.thread is not threading.current_thread():
                    return None
                if lane.queue and self._may_start(lane, lane.queue[0]):
                    return lane.queue.popleft()
                lane.asleep = True
            lane.bell.acquire()

    def _inherited(self, lane: Lane, submission: Submission) -> Exception | None:
        errors = (earlier.error for earlier in submission.after)
        return lane.failure or next((error for error in errors if error is not None), None)

    def _finish(self, lane: Lane, submission: Submission, error: Exception | None) -> None:
        with self._lock:
            submission.ran = True
            submission.let_go()
            if submission.open:  # the device was lost or closed under it
                return
            if error is not None:
                submission.error = lane.failure = error
            self._has_run(submission)
            self._wake()
