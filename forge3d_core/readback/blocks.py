"""The host blocks of a readback pool: its state under one lock, and what the steps ask for, outside it."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence

from forge3d_core.errors import BudgetError, Forked, copy_exception
from forge3d_core.lifetime.hold import Users, note
from forge3d_core.lifetime.life import Life
from forge3d_core.memory.allocator import Allocator
from forge3d_core.protocols import ReadbackStats
from forge3d_core.readback.concurrency import Concurrency
from forge3d_core.readback.handle import Handle
from forge3d_core.readback.lease import BlockLease
from forge3d_core.readback.line import Line
from forge3d_core.readback.state import Allocate, Full, Land, PoolState, Slot
from forge3d_core.timeline.timeline import Point


class Blocks:
    """A pool's blocks; the budget may have the idle ones back.

    Dropped without ``close``, the blocks go back all the same. What a handle or a lease tells of itself may
    be told twice.

    Thread-safety: any thread. ``lock`` is a leaf, but for calls of drivers that never block.
    """

    def __init__(self, allocator: Allocator, life: Life, state: PoolState, *, pre_allocate: bool) -> None:
        self.state = state
        self.life = life
        self.lock = threading.RLock()  # of C (record 20)
        self.line = Line(self.lock)  # coroutines that wait for a block
        self.changed = threading.Condition(self.lock)
        self.concurrency: Concurrency | None = None  # what moves the depth
        self.sleepers = 0  # threads that wait for `changed`, or did and were cut short
        self._leases: Users = set()
        self._allocator = allocator
        self._forget_reclaimer: Callable[[], None] = lambda: None
        if pre_allocate:
            try:
                allocator.afford(state.depth, state.nbytes)
                for _ in range(state.depth):
                    state.add(Slot(allocator.block(state.nbytes, "readback"), state.nbytes))
            except BaseException:
                self.close()
                raise
        # Only now: a pool that is too large must not make room for itself by giving up its own blocks.
        self._forget_reclaimer = allocator.budget.add_reclaimer(_reclaimer(self))

    def claim(self, handles: Sequence[Handle], nbytes: int) -> Slot | Land | Full:
        """Lend a block to reads, idle or new, or say what has to happen before there is one.

        Raises what ended the pool, or a :class:`BudgetError`.
        """
        with self.lock:
            if (ended := self.life.ended) is not None:
                raise copy_exception(ended)
            step = self.state.lend(handles, nbytes)
        return self._allocate(step, handles) if isinstance(step, Allocate) else step

    def started(self, slot: Slot, handles: Sequence[Handle], point: Point) -> Exception | None:
        """Take note that reads were submitted; return what has ended the pool meanwhile."""
        for handle in handles:
            handle.slot, handle.point = slot, point
        with self.lock:
            self.state.started(slot, point, len(handles))
            return self.life.ended

    def withdraw(self, slot: Slot | None, handles: Sequence[Handle]) -> None:
        """Take back what was lent to reads that did not start."""
        with self.lock:
            self.state.withdrawn(slot, handles)
            self._notify()

    def landed(self, handle: Handle, slot: Slot) -> None:
        """Take note that the bytes of a read were moved out of its block."""
        now = time.perf_counter()
        with self.lock:
            self.state.landed(slot, handle, handle.region.nbytes, now - handle.started)
            if self.concurrency is not None:
                self._adapt(self.concurrency, now, handle.region.nbytes)
            if self.sleepers or self.line.places:
                self._notify()

    def leased_out(self, handle: Handle, slot: Slot, lease: BlockLease | None = None) -> None:
        """Take note that a lease has the block in the place of a read."""
        now = time.perf_counter()
        if lease is not None:
            note(self._leases, lease)
        with self.lock:
            self.state.leased_out(slot, handle, handle.region.nbytes, now - handle.started)
            if self.concurrency is not None:
                self._adapt(self.concurrency, now, handle.region.nbytes)

    def cancelled(self, handle: Handle, slot: Slot) -> None:
        """Take note that a read was given up."""
        with self.lock:
            self.state.cancelled(slot, handle)
            self._notify()

    def failed(self, handle: Handle, slot: Slot) -> None:
        """Take note that a submission failed, or that the bytes of a read could not be moved out."""
        with self.lock:
            self.state.failed(slot, handle)
            self._notify()

    def lease_over(self, slot: Slot) -> None:
        """Take note that a lease was released: the block is used again once Python does not reach it."""
        if type(self.life.ended) is Forked:
            return  # the parent's to give back
        with self.lock:
            self.state.lease_over(slot)
            if self.sleepers or self.line.places:
                self._notify()

    def collect(self) -> None:
        """See what was dropped."""
        with self.lock:
            self.state.collect()
        self._release_surplus()

    def stats(self) -> ReadbackStats:
        """Return the figures, all of one instant."""
        self.collect()
        with self.lock:
            sizes = [slot.allocation.native.nbytes for slot in self.state.slots()]
            moves = () if self.concurrency is None else self.concurrency.moves
            return self.state.counts.stats(self.state.pending, self.state.depth, sizes, moves)

    def reclaim(self, nbytes: int) -> int:
        """Give idle blocks back to the budget, largest first, until ``nbytes`` are; return how many were."""
        given = 0
        while given < nbytes:
            with self.lock:
                slot = self.state.reclaim()
                if slot is None:
                    break
                self._allocator.drop(slot.owned)  # at once: the next thread finds it here or on its way
            given += slot.nbytes
            self._allocator.release(slot.owned)
        return given

    def readers(self) -> list[Handle]:
        """Wake what waits, as the pool has ended, and return the reads that have a block."""
        with self.lock:
            self.changed.notify_all()
            self.line.call_all()
            return self.state.readers()

    def revoke(self) -> None:
        """End the leases: the device closes, and takes the blocks along."""
        for lease in [reference() for reference in self._leases.copy()]:
            if lease is not None:
                lease.release()

    def close(self) -> None:
        """Give back all blocks, those in use when the device and their arrays are done; idempotent."""
        self._forget_reclaimer()
        with self.lock:
            slots = self.state.close()
        for slot in slots:
            self._allocator.drop(slot.owned)
        self._allocator.sweep()

    def _allocate(self, step: Allocate, handles: Sequence[Handle]) -> Slot:
        self._release_surplus()
        try:
            slot = Slot(self._allocator.block(step.nbytes, "readback"), step.nbytes)
        except BudgetError as error:
            if not step.reached:
                raise
            raise type(error)(
                f"{error}. Arrays of {step.reached} lease(s) that were released are still referred to, by a "
                "variable or an alias, and keep as many blocks of this pool: drop them (del)"
            ) from error
        with self.lock:
            if (ended := self.life.ended) is None:
                self.state.made(slot, handles)
                return slot
        self._allocator.release(slot.owned)
        raise copy_exception(ended)

    def _release_surplus(self) -> None:
        surplus = self.state.surplus
        while surplus:
            try:
                self._allocator.release(surplus.pop().owned)
            except IndexError:
                return  # another thread took the last

    def _adapt(self, concurrency: Concurrency, now: float, nbytes: int) -> None:
        """Let as many reads hold a block as the throughput says; the lock is held."""
        if concurrency.landed(now, nbytes, self.state.counts.waits):
            self.state.resize(concurrency.limit)
            self._notify()

    def _notify(self) -> None:
        """Wake what waits for a block; the lock is held."""
        if self.sleepers:
            self.changed.notify_all()
        if self.line.places:
            self.line.call()


def _reclaimer(blocks: Blocks) -> Callable[[int], int]:
    """Return a reclaimer that does not keep the blocks alive."""
    reference = weakref.ref(blocks)

    def reclaim(nbytes: int) -> int:
        alive = reference()
        return alive.reclaim(nbytes) if alive is not None else 0

    return reclaim
