"""The bulk transfers of one device: its staging chunks, and how it cuts what it moves."""

from __future__ import annotations

from collections.abc import Callable

from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.lifetime.hold import strike
from forge3d_core.memory.allocator import Allocator
from forge3d_core.protocols import Limits
from forge3d_core.transfer.chunks import Chunks
from forge3d_core.transfer.host_arrays import HostArrays
from forge3d_core.transfer.source import Parts
from forge3d_core.transfer.tuning import Tuning
from forge3d_core.transfer.upload import BulkUpload, Flight, Goal
from forge3d_core.transfer.workers import CREW, Crew

CutParts = Callable[[int], Parts]
"""Cuts what is to be moved into parts that take so many bytes of staging memory."""


class Transfers:
    """Moves what is large through staging chunks of the device's own, with the workers of the process.

    Thread-safety: any thread.
    """

    def __init__(self, allocator: Allocator, limits: Limits, guard: CallGuard, crew: Crew = CREW) -> None:
        self.tuning = Tuning()
        self.crew = crew
        self.host_arrays = HostArrays(allocator, limits)
        self._allocator = allocator
        self._guard = guard
        self._staging = Chunks(allocator, "upload")
        crew.resting.add(self._staging)

    def upload(self, nbytes: int, cut_parts: CutParts, goal: Goal) -> list[Flight] | None:
        """Upload ``nbytes`` and return what was submitted, in order; None where there is no room for a chunk.

        Raises what ends the device or its lane, :class:`FenceTimeout`, and what ``goal.check`` raises.
        """
        cut = self.tuning.cut(nbytes, self._staging.share)
        first = self._staging.demand(cut.chunk)
        if first is None:
            return None
        room = min(cut.chunk, first.nbytes)
        upload = BulkUpload(self._staging, self._guard, cut_parts(room), goal, cut.chunks)
        try:
            self._allocator.pin([goal.target], upload)  # it stays until all is submitted, closed or not
            upload.run(self.crew, cut.helpers, first, room)
        finally:
            strike(goal.target.pins, upload)
        return upload.flights

    def close(self) -> None:
        """Give the chunks back; idempotent."""
        self._staging.close()
