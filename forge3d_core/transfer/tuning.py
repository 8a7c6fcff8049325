"""How a transfer is cut: into chunks of what size, for how many workers."""

from __future__ import annotations

import attrs

from forge3d_core.transfer.workers import default_threads
from forge3d_core.units import KIB, MIB, align_up

STEP = 64 * KIB


@attrs.frozen
class Cut:
    """One transfer's chunk size, how many chunks it may have at once, and how many workers help."""

    chunk: int
    chunks: int
    helpers: int


@attrs.frozen
class Tuning:
    """What suits a machine.

    ``threshold``: bytes from which a transfer goes through chunks. ``share``: bytes for which a further
    worker pays. ``smallest``, ``largest``: a chunk; the largest should stay in a core's cache. ``depth``:
    chunks for each thread, so that the device copies from one while the thread fills another.
    """

    threshold: int = MIB
    share: int = MIB
    smallest: int = 256 * KIB
    largest: int = 4 * MIB
    depth: int = 2
    helpers: int = attrs.field(factory=default_threads)

    def cut(self, nbytes: int, room: int) -> Cut:
        """Return how a transfer of ``nbytes`` is best cut whose chunks together should take ``room`` bytes.

        Every thread gets several parts of equal size. Where room is short threads go first, and then bytes.
        """
        threads = min(self.helpers + 1, nbytes // self.share, room // (self.depth * self.smallest))
        chunks = self.depth * max(threads, 1)
        even = align_up(-(-nbytes // chunks), STEP)
        chunk = max(STEP, min(max(self.smallest, even), self.largest, room // chunks // STEP * STEP))
        return Cut(chunk, min(chunks, -(-nbytes // chunk)), max(threads, 1) - 1)
