"""The host blocks of a readback pool: idle, lent to reads, or given back."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

import attrs

from forge3d_core.errors import BudgetError, Closed
from forge3d_core.memory.allocator import Allocation, Allocator, Owned
from forge3d_core.units import align_up

CLOSED = "the readback pool was closed; make another with device.readback_pool()"


@attrs.define(eq=False)
class Promise:
    """A block in use by one read; the block is idle again when the promise is gone or has none."""

    block: Allocation | None = None


@attrs.define(eq=False)
class _Slot:
    """A block that the pool owns, and who has it."""

    owned: Owned
    lent: weakref.ref[Promise] | None = None

    @property
    def block(self) -> Allocation:
        return self.owned.allocation

    @property
    def free(self) -> bool:
        """Whether no read has it, and the device is done with it: an interrupted read may have left work."""
        promise, block = self.lent() if self.lent is not None else None, self.owned.allocation
        if promise is not None and promise.block is block:
            return False
        return all(point.done for point in block.uses())

    @property
    def idle(self) -> bool:
        """Whether it may be lent: it is free, and no array of an earlier read reaches it."""
        return not self.block.reachable and self.free


class Blocks:
    """A pool's blocks, of ``nbytes`` or what a read needed; the budget may have the idle ones back.

    The pool sees to it that no more than ``depth`` are lent at once. What is lent is known from the
    promises alone. Dropped without ``close``, the blocks go back all the same.

    Thread-safety: any thread.
    """

    def __init__(self, allocator: Allocator, depth: int, nbytes: int, *, pre_allocate: bool) -> None:
        self.allocations = 0  # how many were ever taken from the device
        self._allocator = allocator
        self._depth = depth
        self._nbytes = nbytes
        self._lock = threading.RLock()
        self._slots: list[_Slot] = []
        self._next = 0  # where to look first: reads end in the order in which they began, mostly
        self._closed = False
        self._forget_reclaimer: Callable[[], None] = lambda: None
        if pre_allocate:
            try:
                allocator.afford(depth, block_size(nbytes))
                for _ in range(depth):
                    self._add(self._allocate(nbytes))
            except BaseException:
                self.close()
                raise
        # Only now: a pool that is too large must not make room for itself by giving up its own blocks.
        self._forget_reclaimer = allocator.budget.add_reclaimer(_reclaimer(self))

    @property
    def sizes(self) -> list[int]:
        """The bytes of each block that is held now."""
        with self._lock:
            return [slot.block.native.nbytes for slot in self._slots]

    def take(self, promise: Promise, nbytes: int) -> None:
        """Give ``promise`` the idle block that fits best, or a new one in the place of one too small.

        A block that arrays of an earlier read still reach is one more than ``depth``: it comes back idle.
        Raises :class:`Closed`, or a :class:`BudgetError`.
        """
        with self._lock:
            if (likely := self._likely(block_size(max(nbytes, self._nbytes)))) is not None:
                _lend(likely, promise)
                return
            free = [slot for slot in self._slots if slot.free]
            idle = [slot for slot in free if not slot.owned.allocation.reachable]
            reached = len(free) - len(idle)
            sizes = [slot.owned.allocation.native.nbytes for slot in idle]
            fitting = [(size, place) for place, size in enumerate(sizes) if size >= nbytes]
            best = idle[min(fitting)[1]] if fitting else None
            excess = len(self._slots) - reached - self._depth + (best is None)
            surplus = [slot for slot in idle if slot is not best][: max(0, excess)]
            for slot in surplus:
                self._slots.remove(slot)
            if best is not None:
                _lend(best, promise)
        for slot in surplus:
            self._allocator.release(slot.owned)
        if best is None:
            slot = self._allocate(max(nbytes, self._nbytes), reached)
            _lend(slot, promise)
            self._add(slot)

    def _likely(self, size: int) -> _Slot | None:
        """Return the block that has been lent longest, if it is idle and none could fit better.

        So a read costs the same however many are pending. The lock is held.
        """
        if not self._slots or len(self._slots) > self._depth:
            return None
        slot = self._slots[self._next % len(self._slots)]
        self._next += 1
        return slot if slot.owned.allocation.native.nbytes == size and slot.idle else None

    def reclaim(self, nbytes: int) -> int:
        """Give idle blocks back to the budget, largest first, until ``nbytes`` are; return how many were."""
        given = 0
        while given < nbytes:
            with self._lock:
                idle = [slot for slot in self._slots if slot.idle]
                if not idle:
                    break
                slot = max(idle, key=lambda slot: slot.block.native.nbytes)
                self._slots.remove(slot)
                self._allocator.drop(
                    slot.owned
                )  # at once: the next thread to ask finds it here or on its way
            given += slot.block.native.nbytes
            self._allocator.release(slot.owned)
        return given

    def close(self) -> None:
        """Give back all blocks, those that are lent when the device and their arrays are done; idempotent."""
        self._forget_reclaimer()
        with self._lock:
            self._closed = True
            slots, self._slots = self._slots, []
        for slot in slots:
            self._allocator.drop(slot.owned)
        self._allocator.sweep()

    def _allocate(self, nbytes: int, reached: int = 0) -> _Slot:
        try:
            return _Slot(self._allocator.block(block_size(nbytes), "readback"))
        except BudgetError as error:
            if not reached:
                raise
            raise type(error)(
                f"{error}. Arrays of {reached} lease(s) that were released are still referred to, by a "
                "variable or an alias, and keep as many blocks of this pool: drop them (del)"
            ) from error

    def _add(self, slot: _Slot) -> None:
        with self._lock:
            if not self._closed:
                self.allocations += 1
                self._slots.append(slot)
                return
        self._allocator.release(slot.owned)
        raise Closed(CLOSED)


def _lend(slot: _Slot, promise: Promise) -> None:
    slot.lent, promise.block = weakref.ref(promise), slot.block


def block_size(nbytes: int) -> int:
    """Round up so that sizes repeat and at most a sixteenth is wasted."""
    step = max(4096, (1 << (nbytes - 1).bit_length()) // 32)
    return align_up(nbytes, step)


def _reclaimer(blocks: Blocks) -> Callable[[int], int]:
    """Return a reclaimer that does not keep the blocks alive."""
    reference = weakref.ref(blocks)

    def reclaim(nbytes: int) -> int:
        alive = reference()
        return alive.reclaim(nbytes) if alive is not None else 0

    return reclaim
