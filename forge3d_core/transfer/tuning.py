"""How a transfer is cut: into chunks of what size, for how many workers."""

from __future__ import annotations

import attrs

from forge3d_core.transfer.workers import default_threads, processors
from forge3d_core.units import KIB, MIB, align_up

STEP = 64 * KIB

ONE_EACH = 16 * MIB
"""Up to so much each thread does one part: before it had a second one the others would be through."""


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
    worker pays: to wake one takes as long as to copy some hundred KiB. ``smallest``, ``largest``: a chunk; to
    hand one over takes as long, and one that is too large leaves the cache before the device has read it.
    ``depth``: chunks for each thread, so that the device copies from one while the thread fills another.
    """

    threshold: int = 256 * KIB
    share: int = 3 * MIB
    smallest: int = 2 * MIB
    largest: int = 8 * MIB
    depth: int = 2
    helpers: int = attrs.field(factory=lambda: max(1, min(8, processors() // 2)))

    def cut(self, nbytes: int, room: int) -> Cut:
        """Return how a transfer of ``nbytes`` is best cut whose chunks together should take ``room`` bytes.

        Every thread gets parts of equal size, several if there is much. Where room is short threads go first,
        and then bytes.
        """
        depth = self.depth if nbytes > ONE_EACH else 1
        threads = min(self.helpers + 1, nbytes // self.share + 1, room // (depth * self.smallest))
        chunks = depth * max(threads, 1)
        even = align_up(-(-nbytes // chunks), STEP)
        chunk = max(STEP, min(max(self.smallest, even), self.largest, room // chunks // STEP * STEP))
        return Cut(chunk, min(chunks, -(-nbytes // chunk)), max(threads, 1) - 1)


@attrs.frozen
class Tunings:
    """What suits a machine each way."""

    upload: Tuning = attrs.field(factory=Tuning)
    read: Tuning = attrs.field(factory=lambda: Tuning(helpers=default_threads()))
