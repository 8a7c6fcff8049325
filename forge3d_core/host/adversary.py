"""A seeded adversary that decides what the lanes do next, and the lanes that obey it.

Two things happen to a submission under it: it *starts* (its commands run) and it *lands* (the host may
know). Between the two lies whatever the adversary likes, as on a device whose completion is late to be
seen. Nothing happens by itself, only when the program submits, asks or waits, and all that is drawn is drawn
on submit. So the order is a function of the seed and of the program's calls, not of the clock or of how often
the program asks.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Literal

import attrs

from forge3d_core.errors import DeviceLost, ForgeError
from forge3d_core.host.chaos import Act, Decision
from forge3d_core.host.lanes import Lane, Lanes
from forge3d_core.host.submission import Fate, Submission

CATCH_UP_SECONDS = 0.1
TRACE_LENGTH = 100_000
LONGEST_PUSH = 3


@attrs.define(eq=False)
class Adversary:
    """Decides one total order of starts and landings, which the lanes then follow step by step.

    ``held`` says whether a gate keeps a lane from starting anything new.
    """

    _seed: int
    _held: Callable[[str], bool]
    _random: Random = attrs.field(default=attrs.Factory(lambda self: Random(self._seed), takes_self=True))
    _waiting: dict[str, deque[Submission]] = attrs.field(factory=dict)
    _hidden: dict[str, deque[Submission]] = attrs.field(factory=dict)
    _order: deque[tuple[Literal["start", "land"], Submission]] = attrs.field(factory=deque)
    _wanted: list[Submission] = attrs.field(factory=list)
    _trace: deque[Decision] = attrs.field(factory=lambda: deque(maxlen=TRACE_LENGTH))

    def entered(self, submission: Submission) -> None:
        draw = self._random
        submission.fate = Fate(draw.random(), draw.random(), draw.randint(0, LONGEST_PUSH))
        self.note("submit", submission.lane, submission.number)
        self._waiting.setdefault(submission.lane, deque()).append(submission)
        for _ in range(submission.fate.push):
            self.nudge()
        self.pursue()

    def may_start(self, head: Submission) -> bool:
        """Whether ``head``, the first of its lane, may run now."""
        return bool(self._order) and self._order[0] == ("start", head)

    def ran(self, submission: Submission) -> None:
        if self._order and self._order[0][1] is submission:  # else cleared meanwhile: the device was lost
            self._order.popleft()

    def landings(self) -> Iterable[Submission]:
        """Yield what the host may know from now on, in that order."""
        while self._order and self._order[0][0] == "land":
            yield self._order.popleft()[1]

    def nudge(self) -> None:
        """Let one thing happen: the program asked."""
        self._step()

    def want(self, submission: Submission) -> None:
        """Let happen what ``submission`` takes, now and whenever :meth:`pursue` is called."""
        self._wanted.append(submission)
        self.pursue()

    def unwant(self, submission: Submission) -> None:
        if submission in self._wanted:
            self._wanted.remove(submission)

    def pursue(self) -> None:
        """Do what the waiters want: a gate opened, or work came in."""
        while not all(self.settled(submission) for submission in self._wanted) and self._step():
            pass

    def drain(self) -> None:
        """Let everything happen."""
        while self._step():
            pass

    def clear(self) -> None:
        """Forget what has not happened."""
        for queue in (self._waiting, self._hidden, self._order, self._wanted):
            queue.clear()

    def settled(self, submission: Submission) -> bool:
        """Whether it is decided that the submission lands, though a lane may still be running it."""
        return submission.fate is not None and submission.fate.landed

    def note(self, act: Act, lane: str, number: int) -> None:
        self._trace.append(Decision(act, lane, number))

    def trace(self) -> tuple[Decision, ...]:
        return tuple(self._trace)

    def _step(self) -> bool:
        """Let the possible thing of least rank happen; False when nothing is possible."""
        startable = [queue[0] for queue in self._waiting.values() if queue and self._startable(queue[0])]
        landable = [queue[0] for queue in self._hidden.values() if queue]
        start = min(startable, key=lambda submission: _fate(submission).start_rank, default=None)
        land = min(landable, key=lambda submission: _fate(submission).land_rank, default=None)
        if start and not (land and _fate(land).land_rank < _fate(start).start_rank):
            _fate(start).started = True
            self._waiting[start.lane].popleft()
            self._hidden.setdefault(start.lane, deque()).append(start)
            self._decide("start", start)
        elif land:
            _fate(land).landed = True
            self._hidden[land.lane].popleft()
            self._decide("land", land)
        return bool(start or land)

    def _startable(self, submission: Submission) -> bool:
        return not self._held(submission.lane) and all(_fate(s).started for s in submission.after)

    def _decide(self, act: Literal["start", "land"], submission: Submission) -> None:
        self._order.append((act, submission))
        self.note(act, submission.lane, submission.number)


def _fate(submission: Submission) -> Fate:
    assert submission.fate is not None, "a submission enters before anything happens to it"
    return submission.fate


@attrs.define(eq=False)
class AdversarialLanes(Lanes):
    """Lanes on which things happen when the adversary says so."""

    seed: int = 0
    schedule: Adversary = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.schedule = Adversary(self.seed, lambda name: bool(self._lanes[name].holds))

    def query(self, submission: Submission) -> bool:
        if not submission.open:
            with self._lock:
                if not (settled := self.schedule.settled(submission)):
                    self.schedule.nudge()
                    self._announce()
                    settled = self.schedule.settled(submission)
            if settled:  # decided, so the answer must not hang on how fast the lane's thread is
                submission.wait(CATCH_UP_SECONDS)
        return self._outcome(submission)

    def wait(self, submission: Submission, seconds: float) -> bool:
        if seconds <= 0:
            return self.query(submission)
        if not submission.open:
            with self._lock:
                self.schedule.want(submission)
                self._announce()
            try:
                submission.wait(min(seconds, threading.TIMEOUT_MAX))
            finally:
                with self._lock:
                    self.schedule.unwant(submission)
        return self._outcome(submission)

    def end(self, error: ForgeError) -> None:
        with self._lock:
            if self._ended is None and isinstance(error, DeviceLost):
                self.schedule.note("lose", "", self._submissions)
            self.schedule.clear()
        super().end(error)

    def note(self, act: Act, number: int) -> None:
        with self._lock:
            self.schedule.note(act, "", number)

    def trace(self) -> tuple[Decision, ...]:
        with self._lock:
            return self.schedule.trace()

    def _entered(self, lane: Lane, submission: Submission) -> None:
        self.schedule.entered(submission)
        self._announce()

    def _may_start(self, lane: Lane, head: Submission) -> bool:
        """A gate keeps work from starting, not what the adversary has already let through."""
        started = head.fate is not None and head.fate.started
        return (started or not lane.holds) and self.schedule.may_start(head)

    def _has_run(self, submission: Submission) -> None:
        self.schedule.ran(submission)
        self._announce()

    def _opened(self) -> None:
        if self._closed:
            self.schedule.drain()
        else:
            self.schedule.pursue()
        self._announce()

    def _announce(self) -> None:
        for submission in self.schedule.landings():
            self._land(submission)
        self._wake()
