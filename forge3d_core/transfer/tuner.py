"""The measurement of one device's transfers, made where none was kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forge3d_core.deadline import Deadline
from forge3d_core.foreign import from_signal_handler
from forge3d_core.memory.allocator import Allocator
from forge3d_core.memory.resources import BufferMemory
from forge3d_core.protocols import DeviceInfo, FencePoint
from forge3d_core.timeline.timeline import Timeline
from forge3d_core.transfer.kept_tuning import keep_tuning
from forge3d_core.transfer.measurement import LARGE, measure, measure_reads
from forge3d_core.transfer.source import Runs
from forge3d_core.transfer.tuning import Tuning, Tunings
from forge3d_core.transfer.upload import Goal
from forge3d_core.units import MIB

SECONDS = 0.15
"""How long a measurement takes at most, besides the first transfer each way, which allocates the chunks."""

PATIENCE = 1.0
"""How long one upload of it may take, and how long the caller's own must be ready to wait."""

LEAST_UPLOAD = MIB
"""What is smaller is not worth the measurement, nor does it make much use of what it finds."""

LEAST_SHARE = LARGE
"""With less staging memory than that a measurement would tell of the budget, not of the machine."""


class Mover(Protocol):
    """What moves the bytes of a measurement, as it moves those of others."""

    tuning: Tuning
    reading: Tuning

    def move_up(self, tuning: Tuning, nbytes: int, cut: Callable[[int], Runs], goal: Goal) -> FencePoint:
        """Upload so many bytes with a tuning, in parts as cut; return the point behind them."""

    def move_down(self, tuning: Tuning, result: NDArray[np.uint8], memory: BufferMemory, goal: Goal) -> None:
        """Read into ``result`` with a tuning."""


class Tuner:
    """Finds once, before the first large upload, what replaces the constants.

    The measurement uploads to memory of its own on the lane of that upload, and where reads come in pieces it
    reads that, while the device has no other
    work, and is given up for good where anything at all goes wrong: the upload behind it meets the same, and
    says so. One thread measures; others go on with the constants.
    """

    def __init__(self, allocator: Allocator, info: DeviceInfo, timelines: Iterable[Timeline]) -> None:
        self._allocator = allocator
        self._info = info
        self._reads = info.limits is not None and info.limits.mapped_copies
        self._timelines = tuple(timelines)
        self._once = threading.Lock()  # taken for good by the thread that measures

    def measured(self, mover: Mover, goal: Goal, share: int) -> Tunings | None:
        """Return what a measurement finds, and keep it; None where none is due. Raises interrupts alone."""
        if self._once.locked() or share < LEAST_SHARE or goal.deadline.left() <= PATIENCE or not self._idle():
            return None
        if not self._once.acquire(blocking=False):
            return None
        try:
            tunings = self._measure(mover, goal)
        except Exception as error:
            if from_signal_handler(error):
                raise
            return None
        keep_tuning(self._info, tunings)
        return tunings

    def _idle(self) -> bool:
        return all(timeline.passed(timeline.submitted) for timeline in self._timelines)

    def _measure(self, mover: Mover, goal: Goal) -> Tunings:
        source = np.full(LARGE, 1, np.uint8)
        owned = self._allocator.buffer(LARGE)
        target = BufferMemory(owned.allocation.native, LARGE)

        def aim() -> Goal:
            return Goal(goal.submit, goal.lane, owned.allocation, goal.check, Deadline.after(PATIENCE))

        def up(tuning: Tuning, nbytes: int) -> float:
            cut = partial(Runs.cut, source[:nbytes], target, 0)
            begin = time.perf_counter()
            mover.move_up(tuning, nbytes, cut, aim()).wait(PATIENCE)
            return time.perf_counter() - begin

        def down(tuning: Tuning, nbytes: int) -> float:
            begin = time.perf_counter()
            mover.move_down(tuning, source[:nbytes], target, aim())
            return time.perf_counter() - begin

        try:
            up(mover.tuning, LARGE)
            half = Deadline.after(SECONDS / 2)
            upload, read = measure(up, mover.tuning, lambda: half.left() > 0), mover.reading
            if self._reads:
                down(read, LARGE)
                end = Deadline.after(SECONDS / 2)
                read = measure_reads(down, read, lambda: end.left() > 0)
            return Tunings(upload, read)
        finally:
            self._allocator.release(owned)
