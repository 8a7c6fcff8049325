"""Which blocks of a pool are idle, lent or leased, and to which reads: steps that say what is to be done."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import attrs

from forge3d_core.lifetime.hold import Users, note
from forge3d_core.memory.allocator import Allocation, Owned
from forge3d_core.readback.counts import Counts
from forge3d_core.timeline.timeline import Point
from forge3d_core.units import align_up


class Slot:
    """A host block, and the reads and leases that have it; weakly known, so that what is dropped is gone.

    ``point`` is when the device has written what was last submitted, None before. ``view`` is the block
    as the driver shows it, kept while several reads land from it.
    """

    __slots__ = ("allocation", "leases", "nbytes", "owned", "point", "reads", "unread", "view")

    def __init__(self, owned: Owned, nbytes: int) -> None:
        self.owned = owned
        self.allocation: Allocation = owned.allocation
        self.nbytes = nbytes
        self.reads: Users = set()
        self.leases: Users = set()
        self.point: Point | None = None
        self.unread = 0  # how many reads are counted as pending here
        self.view: Any = None

    @property
    def over(self) -> bool:
        """Whether neither the device nor Python reaches the memory any more."""
        return not self.allocation.reachable and all(point.done for point in self.allocation.uses())

    def lend(self, reads: Sequence[Any]) -> None:
        """Give it to ``reads``."""
        for read in reads:
            note(self.reads, read)

    def readers(self) -> list[Any]:
        """Return the reads that have it and are alive."""
        return [read for reference in self.reads.copy() if (read := reference()) is not None]


@attrs.frozen
class Allocate:
    """Take a block of ``nbytes`` from the device; ``reached`` blocks more wait for arrays of the caller's."""

    nbytes: int
    reached: int


@attrs.frozen
class Land:
    """Move the bytes of these reads, which are complete, out of their block, and ask again."""

    slot: Slot


@attrs.frozen
class Full:
    """Every block is in use, and no read that has one is complete."""


FULL = Full()

Step = Slot | Allocate | Land | Full


class PoolState:
    """The blocks of a pool of ``depth``, each of ``nbytes`` or what a read needed.

    A block is in one of five rooms: *idle*; *starting*, lent to reads that are being submitted; *flying*,
    lent to reads that were, the oldest first; *leased*; or *resting*, no read's any more, while the device
    or an array may still reach it. A step moves it by taking it out of one room and then into another: a
    block that is left between two is in none, and its memory goes back to the budget with it.
    Those idle, starting, flying, leased and being made are never more than ``depth``.

    Not thread-safe: the pool's lock is held. Nothing here waits, allocates or calls back.
    """

    def __init__(self, depth: int, nbytes: int) -> None:
        self.depth = depth
        self.nbytes = block_size(nbytes)
        self.counts = Counts()
        self.idle: list[Slot] = []  # the last that came free is the next to go: it is in the caches
        self.starting: dict[Slot, None] = {}
        self.flying: dict[Slot, None] = {}
        self.leased: dict[Slot, None] = {}
        self.resting: dict[Slot, None] = {}
        self.making: Users = set()  # reads for which a block is being allocated
        self.surplus: list[Slot] = []  # for the pool to give back

    def lend(self, reads: Sequence[Any], nbytes: int) -> Step:
        """Lend a block of at least ``nbytes`` to ``reads``, or say what has to happen before."""
        idle = self.idle
        if idle and nbytes <= self.nbytes == idle[-1].nbytes:
            slot = idle.pop()
        else:
            step = self._choose(nbytes)
            if not isinstance(step, Slot):
                if isinstance(step, Allocate):
                    note(self.making, reads[0])
                return step
            slot = step
        users = slot.reads
        for read in reads:
            users.add(weakref.ref(read, users.discard))
        slot.point = None
        self.starting[slot] = None
        return slot

    def made(self, slot: Slot, reads: Sequence[Any]) -> None:
        """Lend a block that was allocated for ``reads``."""
        self.counts.allocations += 1
        slot.lend(reads)
        self.starting[slot] = None
        self.making.discard(weakref.ref(reads[0]))

    def resize(self, depth: int) -> None:
        """Be of ``depth`` from now on; what is idle beyond it is surplus, what is in use comes to that."""
        self.depth = depth
        while self.idle and len(self.idle) + self.pending > depth:
            self.surplus.append(self.idle.pop(0))

    def add(self, slot: Slot) -> None:
        """Add an idle block."""
        self.counts.allocations += 1
        self.idle.append(slot)

    def started(self, slot: Slot, point: Point, reads: int) -> None:
        """Note that the reads were submitted."""
        self.counts.total += reads
        slot.unread, slot.point = reads, point
        if self.starting.pop(slot, False) is None:  # False: the pool was closed in the meantime
            self.flying[slot] = None

    def withdrawn(self, slot: Slot | None, reads: Sequence[Any]) -> None:
        """Note that the reads are not submitted, as far as is known."""
        self.making.discard(weakref.ref(reads[0]))
        if slot is not None:
            slot.reads.clear()
            if self.starting.pop(slot, False) is None:
                self.resting[slot] = None
                self._wake_resting()

    def landed(self, slot: Slot, read: Any, nbytes: int, seconds: float) -> None:
        """Note that the bytes of a read were moved out of the block."""
        if (reference := weakref.ref(read)) in slot.reads:
            counts = self.counts
            counts.completed += 1
            counts.bytes_read += nbytes
            counts.seconds += seconds
            slot.unread -= 1
            slot.reads.discard(reference)
            if slot.reads or slot.leases:
                return
            if self.flying.pop(slot, False) is None:
                slot.view = None
                self.idle.append(slot)  # the read was complete, and no array has shown the block
            elif self.leased.pop(slot, False) is None:
                self._rest(slot)

    def failed(self, slot: Slot, read: Any) -> None:
        """Note that the bytes of a read could not be moved out, or will never come."""
        if (reference := weakref.ref(read)) in slot.reads:
            self.counts.failed += 1
            slot.unread -= 1
            slot.reads.discard(reference)
            if not (slot.reads or slot.leases) and (
                self.flying.pop(slot, False) is None or self.leased.pop(slot, False) is None
            ):
                self._rest(slot)

    def cancelled(self, slot: Slot, read: Any) -> None:
        """Note that a read was given up; the device may still write the block."""
        if (reference := weakref.ref(read)) in slot.reads:
            self.counts.cancelled += 1
            slot.unread -= 1
            slot.reads.discard(reference)

    def leased_out(self, slot: Slot, read: Any, nbytes: int, seconds: float) -> None:
        """Note that a lease, which is among ``slot.leases``, has the block in the place of ``read``."""
        if (reference := weakref.ref(read)) in slot.reads:
            counts = self.counts
            counts.completed += 1
            counts.bytes_read += nbytes
            counts.seconds += seconds
            if self.flying.pop(slot, False) is None:
                self.leased[slot] = None
            slot.unread -= 1
            slot.reads.discard(reference)

    def lease_over(self, slot: Slot) -> None:
        """Note that a lease has ended, or was dropped with all its arrays."""
        if not (slot.leases or slot.reads) and self.leased.pop(slot, False) is None:
            self._rest(slot)

    def collect(self) -> bool:
        """See what was dropped: handles, leases, arrays of leases that were released; whether any was."""
        before = len(self.idle), len(self.resting), self.counts.cancelled, len(self.surplus)
        for slot in list(self.flying):
            self._count_dropped(slot)
            if not slot.reads and slot.point is not None and slot.point.done:
                self.flying.pop(slot, None)
                self._rest(slot)
        for slot in list(self.leased):
            self._count_dropped(slot)
            self.lease_over(slot)
        for slot in list(self.starting):
            if not slot.reads:  # of a call that was cut short: the device may have the submission
                self.starting.pop(slot, None)
                self.resting[slot] = None
        self._wake_resting()
        return before != (len(self.idle), len(self.resting), self.counts.cancelled, len(self.surplus))

    def reclaim(self) -> Slot | None:
        """Return the largest idle block, which is the budget's from now on."""
        self._wake_resting()
        if not self.idle:
            return None
        slot = max(self.idle, key=lambda slot: slot.nbytes)
        self.idle.remove(slot)
        return slot

    def close(self) -> list[Slot]:
        """Empty all rooms; return the blocks that were in them."""
        slots = self.slots()
        for slot in slots:
            slot.view = None
        for room in (self.starting, self.flying, self.leased, self.resting):
            room.clear()
        self.idle.clear()
        return slots

    def slots(self) -> list[Slot]:
        """Return all blocks."""
        return [*self.idle, *self.starting, *self.flying, *self.leased, *self.resting]

    def readers(self) -> list[Any]:
        """Return the reads that have a block, whose bytes may have come."""
        return [read for slot in (*self.flying, *self.leased) for read in slot.readers()]

    @property
    def pending(self) -> int:
        """How many blocks reads have."""
        return len(self.starting) + len(self.flying) + len(self.leased) + len(self.making)

    @property
    def oldest(self) -> Slot | None:
        """The block in flight that comes free next."""
        return next(iter(self.flying), None)

    def _choose(self, nbytes: int) -> Slot | Allocate | Land | Full:
        """Return the idle block that fits best, or what has to happen before there is one."""
        front = self._front()
        if not self.idle and self.resting:
            self._wake_resting()
        fitting = [slot for slot in self.idle if slot.nbytes >= nbytes]
        if fitting:
            best = min(fitting, key=lambda slot: slot.nbytes)
            self.idle.remove(best)
            return best
        if self.idle or self.pending < self.depth:
            if len(self.idle) + self.pending >= self.depth:  # in the place of one that is too small
                self.surplus.append(self.idle.pop(0))
            reached = sum([slot.allocation.reachable for slot in self.resting])
            return Allocate(max(block_size(nbytes), self.nbytes), reached)
        if front is not None and front.point is not None and front.point.done:
            return Land(front)
        return FULL

    def _front(self) -> Slot | None:
        """Return the oldest block in flight that a read has, or that the device still writes."""
        while self.flying:
            slot = next(iter(self.flying))
            if slot.reads or slot.point is None or not slot.point.done:
                return slot
            self._count_dropped(slot)
            del self.flying[slot]
            self._rest(slot)
        return None

    def _rest(self, slot: Slot) -> None:
        """Put a block, which is in no room, where it belongs."""
        slot.view = None
        if slot.over:
            self.idle.append(slot)
        else:
            self.resting[slot] = None

    def _wake_resting(self) -> None:
        """Take what rests back into use as far as there is room, and give the rest of it back."""
        for slot in [slot for slot in self.resting if slot.over]:
            del self.resting[slot]
            room = self.surplus if len(self.idle) + self.pending >= self.depth else self.idle
            room.append(slot)

    def _count_dropped(self, slot: Slot) -> None:
        if (dropped := slot.unread - len(slot.reads)) > 0:
            self.counts.cancelled += dropped
            slot.unread -= dropped


def block_size(nbytes: int) -> int:
    """Round up so that sizes repeat and at most a sixteenth is wasted."""
    step = max(4096, (1 << (nbytes - 1).bit_length()) // 32)
    return align_up(nbytes, step)
