"""The bulk transfers of one device: its staging chunks, and how it cuts what it moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from forge3d_core.driver import Command, Download, Driver, Measurable
from forge3d_core.errors import BudgetError
from forge3d_core.foreign import view_of
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.lifetime.hold import strike
from forge3d_core.memory.allocator import Allocator
from forge3d_core.memory.resources import BufferMemory
from forge3d_core.protocols import DeviceOptions, FencePoint, Limits
from forge3d_core.timeline.timeline import Timeline
from forge3d_core.transfer.chunks import Chunk, Chunks
from forge3d_core.transfer.host_arrays import HostArrays
from forge3d_core.transfer.kept_tuning import find_tuning
from forge3d_core.transfer.landing import BulkLanding, Piece
from forge3d_core.transfer.source import Part, Parts
from forge3d_core.transfer.tuner import LEAST_UPLOAD, Tuner
from forge3d_core.transfer.tuning import Tuning, Tunings
from forge3d_core.transfer.upload import BulkUpload, Flight, Goal
from forge3d_core.transfer.workers import CREW, Crew

CutParts = Callable[[int], Parts]
"""Cuts what is to be moved into parts that take so many bytes of staging memory."""


class Transfers:
    """Moves what is large through staging chunks of the device's own, with the workers of the process.

    Thread-safety: any thread.
    """

    def __init__(self, allocator: Allocator, limits: Limits, guard: CallGuard, crew: Crew = CREW) -> None:
        constants = Tunings()
        self.tuning, self.reading = constants.upload, constants.read  # of uploads, and of reads
        self.tuner: Tuner | None = None
        self.crew = crew
        self.host_arrays = HostArrays(allocator, limits)
        self._allocator = allocator
        self._guard = guard
        self.landing = Chunks(allocator, "readback")
        self._staging = Chunks(allocator, "upload")
        crew.resting.update((self.landing, self._staging))

    def upload(self, nbytes: int, cut_parts: CutParts, goal: Goal) -> list[Flight] | None:
        """Upload ``nbytes`` and return what was submitted, in order; None where there is no room for a chunk.

        Raises what ends the device or its lane, :class:`FenceTimeout`, and what ``goal.check`` raises.
        """
        if self.tuner is not None and nbytes >= LEAST_UPLOAD:
            self._tune(self.tuner, goal)
        return self._upload(self.tuning, nbytes, cut_parts, goal)

    def tune(self, driver: Driver, options: DeviceOptions, timelines: Iterable[Timeline]) -> None:
        """Take the tuning that was measured for this device, or measure it before the first large upload.

        Where ``options`` and the driver want that; otherwise the constants stay.
        """
        if options.tuning == "measured" and isinstance(driver, Measurable) and driver.measures_transfers:
            kept = find_tuning(driver.info)
            if kept is None:
                self.tuner = Tuner(self._allocator, driver.info, timelines)
            else:
                self.tuning, self.reading = kept.upload, kept.read

    def close(self) -> None:
        """Give the chunks back; idempotent."""
        self.landing.close()
        self._staging.close()

    def _tune(self, tuner: Tuner, goal: Goal) -> None:
        tunings = tuner.measured(self, goal, self._staging.share)
        if tunings is not None:
            self.tuning, self.reading, self.tuner = tunings.upload, tunings.read, None

    def move_up(self, tuning: Tuning, nbytes: int, cut_parts: CutParts, goal: Goal) -> FencePoint:
        flights = self._upload(tuning, nbytes, cut_parts, goal)
        if flights is None:
            raise BudgetError("there is no room for a chunk")
        return flights[-1].point

    def move_down(self, tuning: Tuning, result: NDArray[np.uint8], memory: BufferMemory, goal: Goal) -> None:
        """Read into ``result`` through one chunk, in pieces; raises where there is none of that size."""
        nbytes = result.nbytes
        chunk = self.landing.demand(nbytes)
        if chunk is None:
            raise BudgetError("there is no room for a chunk")
        try:
            if chunk.nbytes < nbytes:
                raise BudgetError("there is no room for a chunk")
            view, step, pieces = view_of(chunk.native), tuning.cut(nbytes, nbytes).chunk, list[Piece]()
            for start in range(0, nbytes, step):
                stop = min(start + step, nbytes)
                commands: list[Command] = [Download(memory, start, chunk.native, start, stop - start)]
                chunk.point = goal.submit(goal.lane, commands, [goal.target], [chunk.allocation])
                pieces.append(Piece(start, stop, chunk.point))

            def move(start: int, stop: int) -> None:
                np.copyto(result[start:stop], view[start:stop])

            def wait(point: FencePoint) -> bool:
                point.wait(goal.deadline.timeout)
                return True

            BulkLanding(move, pieces, self._guard, wait).run(self.crew, tuning.helpers)
        except BaseException:
            self.landing.drop([chunk])
            raise
        self.landing.give(chunk)

    def _upload(self, tuning: Tuning, nbytes: int, cut_parts: CutParts, goal: Goal) -> list[Flight] | None:
        cut = tuning.cut(nbytes, self._staging.share)
        first = self._staging.demand(cut.chunk)
        if first is None:
            return None
        room = min(cut.chunk, first.nbytes)
        parts = cut_parts(room)
        if len(parts) == 1:
            flights = [self._upload_one(parts.part(0), first, goal)]
        else:
            upload = BulkUpload(self._staging, self._guard, parts, goal, cut.chunks)
            try:
                self._allocator.pin([goal.target], upload)  # it stays until all is submitted, closed or not
                upload.run(self.crew, cut.helpers, first, room)
            finally:
                strike(goal.target.pins, upload)
            flights = upload.flights
        if not cut.helpers:
            self.crew.attend()  # or the chunks would not go back when they have rested
        return flights

    def _upload_one(self, part: Part, chunk: Chunk, goal: Goal) -> Flight:
        """Upload what one chunk holds, on the calling thread: there is nothing to share or to wait for."""
        try:
            goal.check()
            guard = self._guard
            with guard.here():
                guard.check()
                part.fill(view_of(chunk.native))
            command = part.command(chunk.native)
            chunk.point = goal.submit(goal.lane, [command], [chunk.allocation], [goal.target])
        except BaseException:
            self._staging.drop([chunk])
            raise
        self._staging.give(chunk)
        return Flight(chunk.point, part.nbytes)
