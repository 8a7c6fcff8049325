"""Submitting: the one way to put work on a lane, under one lock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from forge3d_core.device.order import NO_TOKENS, explicit_waits, tokens
from forge3d_core.driver import Command, Driver
from forge3d_core.errors import DriverError, UsageError, copy_exception
from forge3d_core.foreign import from_signal_handler
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.lifetime.interrupts import finish
from forge3d_core.lifetime.life import Life
from forge3d_core.memory.allocation import Allocation, note_uses
from forge3d_core.memory.allocator import NOTHING, Allocator
from forge3d_core.protocols import FencePoint
from forge3d_core.timeline.timeline import Point, Timeline

NO_POINTS: Iterable[FencePoint] = ()


class Submitter:
    """Puts work on lanes: orders it, asks the driver, and notes what it uses, all under one lock.

    The lock is one of the guard's, so a device that closes waits for the submission under way, and the next
    finds the guard shut.
    """

    def __init__(
        self,
        driver: Driver,
        life: Life,
        gate: CallGuard,
        allocator: Allocator,
        timelines: Mapping[str, Timeline],
        on_error: Callable[[Exception], None],
    ) -> None:
        self.driver = driver  # what is asked to submit; while it is traced, what stands in front of it
        self._life = life
        self._gate = gate
        self._allocator = allocator
        self._timelines = timelines
        self._on_error = on_error
        self._lock = gate.lock()

    def submit(
        self,
        lane: str,
        commands: Sequence[Command],
        reads: Collection[Allocation],
        writes: Collection[Allocation],
        after: Iterable[FencePoint] = NO_POINTS,
    ) -> Point:
        """Submit on ``lane`` behind everything that these allocations and ``after`` ask for."""
        try:
            timeline = self._timelines[lane]
        except (KeyError, TypeError):
            raise unknown_lane(lane, self._timelines) from None
        explicit = () if after is NO_POINTS else explicit_waits(after, self._timelines.values())
        with self._lock:
            if (ended := self._life.ended) is not None:
                raise copy_exception(ended)
            if self._gate.closed:
                self._gate.check()
            allocator = self._allocator
            try:
                allocator.submitting = reads, writes  # before tokens() looks at ``freed``
                behind = (
                    tokens(timeline, reads, writes, explicit) if reads or writes or explicit else NO_TOKENS
                )
                if timeline.failure is not None:
                    timeline.check()
                try:
                    point = timeline.enqueue(self.driver.submit, timeline.name, commands, behind)
                    if reads or writes:
                        note_uses(point, reads, writes)
                    return point
                except BaseException as error:
                    self._cut_short(error, timeline, reads, writes)
                    raise
            finally:
                allocator.submitting = NOTHING

    def submit_parts(
        self,
        lane: str,
        parts: Iterable[Sequence[Command]],
        reads: Collection[Allocation],
        writes: Collection[Allocation],
        after: Iterable[FencePoint] = NO_POINTS,
    ) -> list[Point]:
        """Submit work in parts, each with a point of its own, and nothing of other threads in between."""
        timeline = self._timelines[lane]
        explicit = () if after is NO_POINTS else explicit_waits(after, self._timelines.values())
        points: list[Point] = []
        with self._lock:
            if (ended := self._life.ended) is not None:
                raise copy_exception(ended)
            self._gate.check()
            allocator = self._allocator
            try:
                allocator.submitting = reads, writes  # before tokens() looks at ``freed``
                behind: Sequence[Any] = tokens(timeline, reads, writes, explicit)
                timeline.check()
                try:
                    for commands in parts:
                        point = timeline.enqueue(self.driver.submit, timeline.name, commands, behind)
                        note_uses(point, reads, writes)
                        points.append(point)
                        behind = NO_TOKENS  # the lane has the first part before the others
                    return points
                except BaseException as error:
                    self._cut_short(error, timeline, reads, writes)
                    raise
            finally:
                allocator.submitting = NOTHING

    def _cut_short(
        self,
        error: BaseException,
        timeline: Timeline,
        reads: Collection[Allocation],
        writes: Collection[Allocation],
    ) -> None:
        """See that what the driver may have of a submission is in order with what comes later."""
        if isinstance(error, DriverError):  # not known what the device does: in use up to a point to come
            note_uses(timeline.point(timeline.submitted + 1), reads, writes)
        if isinstance(error, Exception) and not from_signal_handler(error):
            self._on_error(error)
            return

        def stand_in() -> None:
            point = timeline.enqueue(self.driver.submit, timeline.name, [], NO_TOKENS)
            note_uses(point, reads, writes)

        finish(stand_in, self._on_error)


def unknown_lane(name: object, lanes: Iterable[str]) -> UsageError:
    return UsageError(f"no lane {name!r}; this device has {', '.join(lanes)}")
