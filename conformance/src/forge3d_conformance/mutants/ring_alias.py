"""Rings and pools that use memory again though an alias of it lives."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.mutants.readback_lease import Counterfeit
from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.staged import Staged
from forge3d_conformance.mutants.wrap import Layer


class Private(Staged):
    """Slices over memory of the suite's own, copied to the real one by commit. No defect yet."""

    class Ring(Staged.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.free: list[NDArray[np.uint8]] = []  # to be handed out again
            self.handed: list[NDArray[np.uint8]] = []

        def adopt(self, slot: Any) -> Any:
            slot = super().adopt(slot)
            if slot is not None:
                fits = bool(self.free) and self.free[-1].nbytes == slot.target.nbytes
                slot.memory = self.free.pop() if fits else np.zeros(slot.target.nbytes, np.uint8)
                self.handed.append(slot.memory)
            return slot

    class Slice(Staged.Slice):
        memory: NDArray[np.uint8]

        @property
        def view(self) -> Any:
            _ = self.target.view  # says so when the slice is spent
            return self.memory[:]

        def commit(self, target: Any, offset: int = 0) -> None:
            self.target.view[:] = self.memory
            self.target.commit(target.target, offset)


@mutant(
    "ring.alias-of-a-commit", breaks="ring.alias", because="after commit, beside the next slice, it shows"
)
class AliasOfACommit(Private):
    """The memory of a committed slice is the next slice's, whatever still reaches it."""

    class Slice(Private.Slice):
        def commit(self, target: Any, offset: int = 0) -> None:
            super().commit(target, offset)
            self.ring.free.append(self.memory)


@mutant(
    "ring.alias-of-a-release", breaks="ring.alias", because="after release, beside the next slice, it shows"
)
class AliasOfARelease(Private):
    """The memory of a released slice is the next slice's, whatever still reaches it."""

    class Slice(Private.Slice):
        def release(self) -> None:
            self.target.release()
            self.ring.free.append(self.memory)


@mutant("ring.alias-writes-on", breaks="ring.alias", because="a write after commit reached another slice")
class AliasWritesOn(Private):
    """What is written late through an alias of a slice is copied with the next."""

    class Ring(Private.Ring):
        last: Any = None

    class Slice(Private.Slice):
        def commit(self, target: Any, offset: int = 0) -> None:
            if self.ring.last is not None:
                memory, before = self.ring.last
                late = memory != before
                self.memory[late] = memory[late]
            self.ring.last = self.memory, self.memory.copy()
            super().commit(target, offset)


@mutant(
    "ring.alias-sent-late", breaks="ring.alias", because="a write after commit changed what was committed"
)
class AliasSentLate(Private):
    """Commit sends what the memory has when the ring advances, with what an alias wrote until then."""

    class Ring(Private.Ring):
        committed: tuple[Any, ...] = ()

        def advance(self, timeout: float | None = None) -> Any:
            point = self.real.advance(timeout)
            committed, self.committed = self.committed, ()
            for memory, target, offset in committed:
                point = self.spare.upload(memory, target, offset)
            return point

    class Slice(Private.Slice):
        def commit(self, target: Any, offset: int = 0) -> None:
            super().commit(target, offset)
            self.ring.committed += ((self.memory, target.target, offset),)


@mutant("ring.alias-after-close", breaks="ring.alias", because="after the end .* it shows")
class AliasAfterClose(Private):
    """A ring that closes gives memory away that aliases still reach."""

    class Ring(Private.Ring):
        def close(self) -> None:
            self.target.close()
            for memory in self.handed:
                memory[:] = 0xDD


@mutant("ring.alias-of-a-lease", breaks="ring.alias", because="beside the next lease it shows")
class AliasOfALease(Layer):
    """A released lease gives its block to the next, though an alias shows it."""

    class Pool(Layer.Pool):
        block: Any = None

        def read(self, source: Any, **region: Any) -> Any:
            handle = self.real.read(source, **region)
            handle.pool = self
            return handle

    class Handle(Layer.Handle):
        pool: Any = None

        def lease(self, timeout: float | None = None) -> Any:
            lease = Counterfeit(self.target.lease(timeout))
            if self.pool.block is None or self.pool.block.shape != lease.memory.shape:
                self.pool.block = lease.memory.copy()
            self.pool.block[...] = lease.memory
            lease.shown = self.pool.block.view()
            lease.shown.flags.writeable = False
            return lease
