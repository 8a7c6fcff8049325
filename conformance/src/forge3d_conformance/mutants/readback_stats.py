"""Pools that count wrongly."""

from __future__ import annotations

from typing import Any

import attrs

from forge3d_conformance.mutants.landing import Noted
from forge3d_conformance.mutants.registry import mutant
from forge3d_core.errors import DeviceLost
from forge3d_core.protocols import ReadbackStats


class Recounted(Noted):
    """The statistics are what :meth:`recount` makes of the true ones."""

    def recount(self, stats: ReadbackStats) -> ReadbackStats:
        return stats

    class Pool(Noted.Pool):
        def stats(self) -> Any:
            layer: Any = self.layer
            return layer.recount(self.target.stats())


@mutant("readback.submitted-is-completed", breaks="readback.stats", because="completed_operations is")
class SubmittedIsCompleted(Recounted):
    """A read counts as completed when it is submitted."""

    def recount(self, stats: ReadbackStats) -> ReadbackStats:
        done = stats.total_operations - stats.cancelled_operations - stats.failed_operations
        return attrs.evolve(stats, completed_operations=done)


@mutant("readback.pending-forgets-cancelled", breaks="readback.stats", because="pending_operations is")
class PendingForgetsCancelled(Recounted):
    """A cancelled read is not pending any more, though the device still writes its block."""

    def recount(self, stats: ReadbackStats) -> ReadbackStats:
        pending = max(0, stats.pending_operations - stats.cancelled_operations)
        return attrs.evolve(stats, pending_operations=pending)


@mutant("readback.cancelled-is-not-counted", breaks="readback.stats", because="cancelled_operations is")
class CancelledIsNotCounted(Recounted):
    """A cancelled read vanishes from the counts."""

    def recount(self, stats: ReadbackStats) -> ReadbackStats:
        return attrs.evolve(stats, cancelled_operations=0)


@mutant("readback.refused-is-started", breaks="readback.stats", because="total_operations is")
class RefusedIsStarted(Recounted):
    """A read that raised Busy counts as an operation."""

    def recount(self, stats: ReadbackStats) -> ReadbackStats:
        return attrs.evolve(stats, total_operations=stats.total_operations + stats.waits)


@mutant("readback.counts-whole-blocks", breaks="readback.stats", because="bytes_read is")
class CountsWholeBlocks(Recounted):
    """bytes_read counts what was copied, alignment included, not what was asked for."""

    def recount(self, stats: ReadbackStats) -> ReadbackStats:
        return attrs.evolve(stats, bytes_read=-(-stats.bytes_read // 256) * 256)


@mutant("readback.average-in-seconds", breaks="readback.stats", because="average_time_ms is")
class AverageInSeconds(Recounted):
    """The average time is in seconds."""

    def recount(self, stats: ReadbackStats) -> ReadbackStats:
        return attrs.evolve(stats, average_time_ms=stats.average_time_ms / 1000)


@mutant("readback.average-over-all", breaks="readback.stats", because="average_time_ms is")
class AverageOverAll(Recounted):
    """The time of completed reads is divided by the number of all."""

    def recount(self, stats: ReadbackStats) -> ReadbackStats:
        share = stats.completed_operations / max(1, stats.total_operations)
        return attrs.evolve(stats, average_time_ms=stats.average_time_ms * share)


@mutant("readback.waits-are-not-counted", breaks="readback.stats", because="waits is")
class WaitsAreNotCounted(Recounted):
    """A read that found no block leaves no trace in the counts."""

    def recount(self, stats: ReadbackStats) -> ReadbackStats:
        return attrs.evolve(stats, waits=0)


@mutant("readback.torn-snapshot", breaks="readback.stats", because="total_operations is|more reads landed")
class TornSnapshot(Noted):
    """A snapshot has one count from the last time."""

    class Pool(Noted.Pool):
        before = 0

        def stats(self) -> Any:
            stats = self.target.stats()
            torn = attrs.evolve(stats, total_operations=self.before)
            self.before = stats.total_operations
            return torn


@mutant(
    "readback.failure-counts-each-wait",
    breaks="readback.stats",
    because="total, completed and failed",
    requires=("hold", "lose"),
)
class FailureCountsEachWait(Noted):
    """Each wait for a failed read counts one more failure."""

    class Pool(Noted.Pool):
        raised = 0

        def stats(self) -> Any:
            return attrs.evolve(self.target.stats(), failed_operations=self.raised)

    class Handle(Noted.Handle):
        def wait(self, timeout: float | None = None) -> Any:
            try:
                return self.target.wait(timeout)
            except DeviceLost:
                self.pool.raised += 1
                raise
