"""A driver in front of the device's own, that notes what goes to it and what comes of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from forge3d_core.driver import Command, Driver, Ranges, Timing
from forge3d_core.foreign import from_signal_handler
from forge3d_core.timeline.timeline import Timeline
from forge3d_core.trace.events import Submission, Thread, Wait, blocks_of, describe, now
from forge3d_core.trace.log import Log

MAX_BLOCKS = 4096
"""Host blocks that are told apart; past that, numbers begin anew."""


class TracedDriver:
    """Stands where submissions and timelines ask their driver, while there is a log of this device's.

    It changes no token and no argument, so it may come and go at any time, with work in flight.

    Thread-safety: as a driver. ``submit`` is one thread's at a time.
    """

    def __init__(self, driver: Driver, timelines: dict[str, Timeline], number: int) -> None:
        self.logs: tuple[Log, ...] = ()
        self.driver = driver
        self.number = number
        self._timelines = timelines
        self._timing = driver if isinstance(driver, Timing) else None
        self._ranges = driver if isinstance(driver, Ranges) else None
        self._flying: dict[int, deque[tuple[Any, Submission]]] = {}  # by the token, which is kept
        self._values: dict[int, tuple[str, int]] = {}  # of the tokens in flight, for ``after``
        self._blocks: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)

    def submit(self, lane: str, commands: Sequence[Command], after: Sequence[Any]) -> Any:
        what, nbytes, kernels = describe(commands)
        submission = Submission(
            device=self.number,
            lane=lane,
            value=self._timelines[lane].submitted + 1,
            thread=Thread.current(),
            called=now(),
            returned=0.0,
            what=what,
            nbytes=nbytes,
            kernels=kernels,
            after=tuple(self._values[id(token)] for token in after if id(token) in self._values),
            blocks=tuple((direction, self._number_of(block)) for direction, block in blocks_of(commands)),
        )
        with self.range(f"submit {lane} {submission.value}: {what}"):
            try:
                token = self.driver.submit(lane, commands, after)
            except BaseException as error:
                submission.error = type(error).__name__
                raise
            finally:
                submission.returned = now()
                for log in self.logs:
                    log.submissions.add(submission)
        self._flying.setdefault(id(token), deque()).append((token, submission))
        self._values[id(token)] = lane, submission.value
        return token

    def query(self, token: Any) -> bool:
        over = self.driver.query(token)
        if over:
            self._see(token)
        return over

    def wait(self, token: Any, seconds: float) -> bool:
        over = self.driver.wait(token, seconds)
        if over:
            self._see(token)
        return over

    def retire(self, token: Any) -> None:
        self._values.pop(id(token), None)
        flying = self._flying.get(id(token))
        if flying:
            _, submission = flying.popleft()
            if not flying:
                self._flying.pop(id(token), None)
            self._note_times(token, submission)
        self.driver.retire(token)

    @contextmanager
    def waiting(self, timeline: Timeline, value: int) -> Iterator[None]:
        """Note a wait of the calling thread, however it ends."""
        begun, error = now(), ""
        try:
            with self.range(f"wait {timeline.name} {value}"):
                yield
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            wait = Wait(self.number, timeline.name, value, Thread.current(), begun, now(), error)
            for log in self.logs:
                log.waits.add(wait)

    @contextmanager
    def range(self, name: str) -> Iterator[None]:
        """Have the API's own profiler show a range of this thread, where the driver can."""
        if self._ranges is None:
            yield
            return
        self._ranges.push_range(name)
        try:
            yield
        finally:
            self._ranges.pop_range()

    def _see(self, token: Any) -> None:
        for _, submission in self._flying.get(id(token), ()):
            if submission.seen is None:
                submission.seen = now()
            break

    def _note_times(self, token: Any, submission: Submission) -> None:
        if submission.seen is None:
            submission.seen = now()
        if self._timing is None:
            return
        try:
            times = self._timing.times(token)
        except Exception as error:  # what it says is for the picture alone, and no reason to fail a lane
            if from_signal_handler(error):
                raise
            times = None
        if times is not None:
            submission.clock = self._timing.clock
            submission.begun, submission.ended = times

    def _number_of(self, block: Any) -> int:
        if len(self._blocks) > MAX_BLOCKS:
            self._blocks.clear()
        return self._blocks.setdefault(id(block), len(self._blocks))
