"""The host blocks of a readback pool: idle, lent to reads, or given back."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

import attrs

from forge3d_core.allocation import Allocation, Allocator
from forge3d_core.errors import Closed
from forge3d_core.units import align_up

CLOSED = "the readback pool was closed; make another with device.readback_pool()"


@attrs.define(eq=False)
class Promise:
    """A block on its way to a read that is not pending yet."""

    block: Allocation | None = None


class Blocks:
    """A pool's blocks, of ``nbytes`` or what a read needed; the budget may have the idle ones back.

    The pool sees to it that no more than ``depth`` are lent at once. Dropped without ``close``, they go
    back all the same.

    Thread-safety: any thread.
    """

    def __init__(self, allocator: Allocator, depth: int, nbytes: int, *, pre_allocate: bool) -> None:
        self.allocations = 0  # how many were ever taken from the device
        self._allocator = allocator
        self._depth = depth
        self._nbytes = nbytes
        self._lock = threading.Lock()
        self._idle: list[Allocation] = []
        self._all: list[Allocation] = []  # idle or lent; shared with the finalizer
        self._closed = False
        self._drop = weakref.finalize(self, _drop_all, allocator, self._all)
        self._drop.atexit = False
        self._forget_reclaimer: Callable[[], None] = lambda: None
        if pre_allocate:
            try:
                allocator.afford(depth, block_size(nbytes))
                for _ in range(depth):
                    self.put_back(self._allocate(nbytes))
            except BaseException:
                self.close()
                raise
        # Only now: a pool that is too large must not make room for itself by giving up its own blocks.
        self._forget_reclaimer = allocator.budget.add_reclaimer(_reclaimer(self))

    @property
    def sizes(self) -> list[int]:
        """The bytes of each block that is held now."""
        with self._lock:
            return [block.native.nbytes for block in self._all]

    def take(self, nbytes: int) -> Allocation:
        """Return the idle block that fits best, or a new one, in the place of one that is too small.

        Raises :class:`Closed`, or a :class:`BudgetError`.
        """
        surplus: Allocation | None = None
        with self._lock:
            fitting = [block for block in self._idle if block.native.nbytes >= nbytes]
            if fitting:
                block = min(fitting, key=lambda idle: idle.native.nbytes)
                self._idle.remove(block)
                return block
            if self._idle and len(self._all) >= self._depth:
                surplus = self._idle.pop(0)
                self._all.remove(surplus)
        if surplus is not None:
            self._allocator.release(surplus)
        return self._allocate(max(nbytes, self._nbytes))

    def put_back(self, block: Allocation) -> None:
        """Make a block idle that was lent; its last submission is complete."""
        with self._lock:
            if block in self._all and not self._closed:
                self._idle.append(block)

    def reclaim(self, nbytes: int) -> int:
        """Give idle blocks back to the budget, largest first, until ``nbytes`` are; return how many were."""
        given = 0
        while given < nbytes:
            with self._lock:
                if not self._idle:
                    break
                block = max(self._idle, key=lambda idle: idle.native.nbytes)
                self._idle.remove(block)
                self._all.remove(block)
                self._allocator.drop(block)  # at once: the next thread to ask finds it here or on its way
            given += block.native.nbytes
            self._allocator.release(block)
        return given

    def close(self) -> None:
        """Give back all blocks, those that are lent when the device and their arrays are done; idempotent."""
        self._forget_reclaimer()
        with self._lock:
            self._closed = True
            self._idle.clear()
        self._drop()
        self._allocator.sweep()

    def _allocate(self, nbytes: int) -> Allocation:
        block = self._allocator.block(block_size(nbytes), "readback")
        with self._lock:
            if not self._closed:
                self._all.append(block)
                self.allocations += 1
                return block
        self._allocator.release(block)
        raise Closed(CLOSED)


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


def _drop_all(allocator: Allocator, blocks: list[Allocation]) -> None:
    while blocks:
        allocator.drop(blocks.pop())
