"""What a readback pool counts."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from forge3d_core.protocols import ConcurrencyMove, ReadbackStats


@attrs.define(eq=False)
class Counts:
    """Since the pool was made; the pool's lock guards them."""

    total: int = 0
    completed: int = 0
    cancelled: int = 0
    failed: int = 0
    dropped_frames: int = 0
    seconds: float = 0.0
    bytes_read: int = 0
    waits: int = 0
    allocations: int = 0  # blocks that were ever taken from the device

    def count(self, nbytes: int, seconds: float) -> None:
        """Count a read that had no block and is complete."""
        self.total += 1
        self.completed += 1
        self.bytes_read += nbytes
        self.seconds += seconds

    def stats(
        self, pending: int, limit: int, sizes: list[int], moves: Iterable[ConcurrencyMove]
    ) -> ReadbackStats:
        """Return the snapshot that the pool's callers see; ``sizes`` are those of the blocks."""
        return ReadbackStats(
            total_operations=self.total,
            completed_operations=self.completed,
            pending_operations=pending,
            cancelled_operations=self.cancelled,
            failed_operations=self.failed,
            dropped_frames=self.dropped_frames,
            average_time_ms=1e3 * self.seconds / self.completed if self.completed else 0.0,
            bytes_read=self.bytes_read,
            block_allocations=self.allocations,
            blocks=len(sizes),
            block_bytes=sum(sizes),
            waits=self.waits,
            pending_limit=limit,
            moves=tuple(moves),
        )
