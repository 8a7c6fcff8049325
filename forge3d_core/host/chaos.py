"""Who decides what the lanes do next: nobody, or a seeded adversary.

Under the adversary two things happen to a submission: it *starts* (its commands run) and it *lands* (the
host may know). Between the two lies whatever the adversary likes, as on a device whose completion
is late to be seen. Nothing happens by itself, only when the program submits, asks or waits, and all
that is drawn is drawn on submit. So the order is a function of the seed and of the program's calls, not
of the clock or of how often somebody asks.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Literal, Protocol

import attrs

from forge3d_core.host.submission import Fate, Submission

Act = Literal["submit", "start", "land", "refuse", "lose"]
TRACE_LENGTH = 100_000
LONGEST_PUSH = 3


@attrs.frozen
class Decision:
    """One line of a trace: ``number`` counts submissions, or allocations where one was refused."""

    act: Act
    lane: str
    number: int


class Schedule(Protocol):
    """What the lanes consult, always under their lock."""

    def entered(self, submission: Submission) -> None: ...

    def may_start(self, head: Submission) -> bool:
        """Whether ``head``, the first of its lane and not held, may run now."""

    def ran(self, submission: Submission) -> None: ...

    def landings(self) -> Iterable[Submission]:
        """Yield what the host may know from now on, in that order."""

    def nudge(self) -> None:
        """Somebody asked: let one thing happen."""

    def want(self, submission: Submission) -> None:
        """Somebody waits: let happen what it takes, now and whenever ``pursue`` is called."""

    def unwant(self, submission: Submission) -> None: ...

    def pursue(self) -> None:
        """A gate opened or work came in: do what the waiters want."""

    def drain(self) -> None:
        """Let everything happen."""

    def clear(self) -> None:
        """Forget what has not happened."""

    def settled(self, submission: Submission) -> bool:
        """Whether it is decided that the submission lands, though a lane may still be running it."""

    def note(self, act: Act, lane: str, number: int) -> None: ...

    def trace(self) -> tuple[Decision, ...]: ...


@attrs.define(eq=False)
class FreeRunning:
    """Every lane runs as soon as it can, and what has run has landed."""

    _ran: list[Submission] = attrs.field(factory=list)

    def entered(self, submission: Submission) -> None: ...

    def may_start(self, head: Submission) -> bool:
        return all(earlier.ran for earlier in head.after)

    def ran(self, submission: Submission) -> None:
        self._ran.append(submission)

    def landings(self) -> Iterable[Submission]:
        while self._ran:
            yield self._ran.pop()

    def nudge(self) -> None: ...

    def want(self, submission: Submission) -> None: ...

    def unwant(self, submission: Submission) -> None: ...

    def pursue(self) -> None: ...

    def drain(self) -> None: ...

    def clear(self) -> None:
        self._ran.clear()

    def settled(self, submission: Submission) -> bool:
        return False

    def note(self, act: Act, lane: str, number: int) -> None: ...

    def trace(self) -> tuple[Decision, ...]:
        return ()


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
        return bool(self._order) and self._order[0] == ("start", head)

    def ran(self, submission: Submission) -> None:
        if self._order and self._order[0][1] is submission:  # else cleared meanwhile: the device was lost
            self._order.popleft()

    def landings(self) -> Iterable[Submission]:
        while self._order and self._order[0][0] == "land":
            yield self._order.popleft()[1]

    def nudge(self) -> None:
        self._step()

    def want(self, submission: Submission) -> None:
        self._wanted.append(submission)
        self.pursue()

    def unwant(self, submission: Submission) -> None:
        if submission in self._wanted:
            self._wanted.remove(submission)

    def pursue(self) -> None:
        while not all(self.settled(submission) for submission in self._wanted) and self._step():
            pass

    def drain(self) -> None:
        while self._step():
            pass

    def clear(self) -> None:
        for queue in (self._waiting, self._hidden, self._order, self._wanted):
            queue.clear()

    def settled(self, submission: Submission) -> bool:
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
class Faults:
    """Counts submissions and allocations, and says which of them must fail. Any thread may ask."""

    lose_after: int | None = None
    _refused: set[int] = attrs.field(factory=set)
    _allocations: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def fail_allocation(self, nth: int) -> None:
        """Refuse the ``nth`` allocation from now; 1 is the next."""
        with self._lock:
            self._refused.add(self._allocations + nth)

    def allocation(self) -> tuple[int, bool]:
        """Count an allocation; return its number and whether it must fail."""
        with self._lock:
            self._allocations += 1
            refused = self._allocations in self._refused
            self._refused.discard(self._allocations)
            return self._allocations, refused
