"""The worker threads of the process: they take the parts of transfers and landings one by one, in turn.

A :class:`Job` is work in independent parts that the calling thread does; workers help. A worker never waits
for a device: where no part can be done now the job falls asleep, until the calling thread, which does wait,
rouses it. So a lane that stands still holds up none of the others.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

import attrs

from forge3d_core.concurrency.threads import OwnThread, start_thread
from forge3d_core.forking import renew_in_child
from forge3d_core.lifetime.interrupts import run_then_end

IDLE_SECONDS = 2.0
"""How long a worker stays without work."""

LOOK_SECONDS = 0.05
"""How often the end of a job looks whether the workers have left, though none has said so."""

MAX_THREADS = 12
"""More do not copy faster: the memory is busy by then."""


class Resting(Protocol):
    """What keeps memory for the next job, and should not keep it for ever."""

    def rest(self) -> None:
        """Give back what has not been used for a while; raises nothing."""


def processors() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def default_threads() -> int:
    """Return how many workers there are at most: three quarters of the processors, from 1 to 12.

    One thread moves 8 to 16 GB/s and a PCIe 5 link 55; eight to twelve keep up (docs, performance).
    """
    return max(1, min(MAX_THREADS, processors() * 3 // 4))


@attrs.define(eq=False)
class Job:
    """Work in parts: ``step`` does one, on any thread, and returns whether there was one to do now.

    At most ``helpers`` workers are in ``step`` at once; ``active`` is how many are. It grows only while the
    job is in the crew's queue: once it has been taken out and ``active`` is 0, no worker touches its memory.
    """

    step: Callable[[], bool]
    helpers: int
    brief: bool = False  # over as soon as it has no part to do
    active: int = attrs.field(default=0, init=False)
    asleep: bool = attrs.field(default=False, init=False)
    over: bool = attrs.field(default=False, init=False)
    failure: BaseException | None = attrs.field(default=None, init=False)
    waiter: threading.Lock | None = attrs.field(default=None, init=False)  # held until the last worker leaves

    @property
    def open(self) -> bool:
        """Whether one worker more may take part."""
        return not (self.asleep or self.over) and self.active < self.helpers


@attrs.define(eq=False)
class Crew:
    """Worker threads that serve jobs in turn, a part at a time.

    They start when a job begins and end after ``idle`` seconds without one. Where none can start, the
    calling thread does all the parts.

    Thread-safety: any thread. The lock guards the queue and the fields of the jobs in it; no part is done
    under it.
    """

    threads: int = attrs.field(factory=default_threads)
    idle: float = IDLE_SECONDS
    resting: weakref.WeakSet[Resting] = attrs.field(factory=weakref.WeakSet, init=False)
    _jobs: deque[Job] = attrs.field(factory=deque, init=False)
    _running: weakref.WeakSet[threading.Thread] = attrs.field(factory=weakref.WeakSet, init=False)
    _waiting: int = attrs.field(default=0, init=False)  # workers without a job
    _lock: threading.RLock = attrs.field(init=False)
    _work: threading.Condition = attrs.field(init=False)  # there may be a part to take

    def __attrs_post_init__(self) -> None:
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin afresh, as a forked child does: it has none of the threads."""
        self._jobs, self._running, self._waiting = deque(), weakref.WeakSet(), 0
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)

    def share(
        self, step: Callable[[], bool], helpers: int, lead: Callable[[Job], bool] | None = None
    ) -> None:
        """Do all parts of a job, with up to ``helpers`` workers, and raise what stopped one of the threads.

        The calling thread calls ``lead`` until that says False: a ``step`` that may wait, and rouses the job.

        However that goes, no worker is in ``step`` afterwards: the memory may go right after it.
        """
        job = Job(step, helpers)

        def run() -> None:
            self.begin(job)
            while job.failure is None and (step() if lead is None else lead(job)):
                pass

        try:
            run_then_end(job, run, partial(self.end, job))
        except BaseException:
            job.failure = None
            raise
        if job.failure is not None:
            failure, job.failure = job.failure, None
            try:
                raise failure
            finally:
                del failure  # or it and this frame would keep each other, and the memory

    def begin(self, job: Job) -> bool:
        """Have workers take part in ``job`` until :meth:`end`, or, if it is brief, as long as it has parts.

        False where there are no workers; a brief job is over then.
        """
        if job.helpers < 1:
            return False
        with self._lock:
            self._jobs.append(job)
            wanted = min(job.helpers, self.threads)
            self._work.notify(wanted)
            missing = min(wanted - self._waiting, self.threads - len(self._running))
        for _ in range(missing):
            if not self._start():
                break
        if self._running:
            return True
        if job.brief:
            with self._lock:
                self._take_out(job)
        return False

    def attend(self) -> None:
        """Have at least one worker there, if one can start: the last to leave sees to what rests."""
        if not self._running:
            self._start()

    def rouse(self, job: Job) -> None:
        """Have workers look again at a job that had no part for them."""
        if job.asleep:
            with self._lock:
                job.asleep = False
                self._work.notify(job.helpers - job.active)

    def end(self, job: Job) -> None:
        """Take ``job`` out, and wait until no worker is in it."""
        with self._lock:
            self._take_out(job)
            waiter = job.waiter
            if waiter is None:
                waiter = job.waiter = threading.Lock()
                waiter.acquire()
        while job.active:
            waiter.acquire(timeout=LOOK_SECONDS)

    def _take_out(self, job: Job) -> None:
        """Have no worker begin with ``job`` any more, under the lock."""
        job.over = True
        if job in self._jobs:
            self._jobs.remove(job)

    def _start(self) -> bool:
        worker = OwnThread(target=self._serve, name="forge3d-worker", daemon=True)
        self._running.add(worker)
        try:
            start_thread(worker)
        except RuntimeError:  # no thread can start
            self._running.discard(worker)
            return False
        return True

    def _serve(self) -> None:
        while self._serve_one():
            pass
        for owner in tuple(self.resting):
            owner.rest()

    def _serve_one(self) -> bool:
        """Do a part or some of the job whose turn it is; False after a while without one.

        A function of its own, as its frame keeps the job, and that the memory.
        """
        job = self._take()
        if job is None:
            return False
        more = True
        try:
            while (more := job.step()) and not job.over and len(self._jobs) == 1:
                pass
        except BaseException as error:
            job.failure, more = error, False
        with self._lock:
            job.active -= 1
            job.asleep = not more
            if job.brief and not more:
                self._take_out(job)
            if job.waiter is not None and not job.active and job.waiter.locked():
                job.waiter.release()
        return True

    def _take(self) -> Job | None:
        """Return the next job in turn with this worker counted in, or None: then it is counted out."""
        with self._lock:
            while (job := self._next()) is None:
                self._waiting += 1
                called = self._work.wait(self.idle)
                self._waiting -= 1
                if not called and not any(job.open for job in self._jobs):
                    self._running.discard(threading.current_thread())
                    break
            return job

    def _next(self) -> Job | None:
        """Count this worker into the next job in turn that is open, under the lock."""
        for _ in range(len(self._jobs)):
            job = self._jobs[0]
            self._jobs.rotate(-1)
            if job.open:
                job.active += 1
                return job
        return None


CREW = Crew()
"""The one of this process, which all its devices share."""
