"""Rings that charge wrongly, outlive their memory, or do not end well."""

from __future__ import annotations

import os
import threading
from typing import Any, ClassVar

import attrs
import numpy as np

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.ring import Deferred
from forge3d_conformance.mutants.staged import WHILE, Shadowed, Staged
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import BudgetError, Closed, SliceSpent, ViewHeld


@mutant("ring.not-charged", breaks="ring.budgeted", because="took 0 bytes")
class NotCharged(Layer):
    """The blocks are allocated past the budget."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = 0

    class Device(Layer.Device):
        NOUNS: ClassVar = Layer.Device.NOUNS
        layer: NotCharged

        def staging_ring(self, **options: Any) -> Any:
            ring = self.real.staging_ring(**options)
            self.layer.hidden += ring.target.ring_count * ring.target.buffer_size
            return ring

    class Budget(Layer.Budget):
        layer: NotCharged

        def metrics(self) -> Any:
            seen = self.target.metrics()
            return attrs.evolve(seen, host_visible_bytes=seen.host_visible_bytes - self.layer.hidden)


class Leaking(Staged):
    """Rings whose memory somebody fails to give back. No defect yet."""

    def __init__(self) -> None:
        super().__init__()
        self.leaked: list[Any] = []


@mutant("ring.close-leaks", breaks="ring.budgeted", because="a ring, closed, left")
class CloseLeaks(Leaking):
    """One block of a closed ring is never given back."""

    class Ring(Staged.Ring):
        layer: CloseLeaks

        def close(self) -> None:
            closed = self.target.closed
            self.target.close()
            if not closed:
                self.layer.leaked.append(self.device.budget.reserve(self.target.buffer_size))


@mutant("ring.refusal-leaks", breaks="ring.budgeted", because="refused left")
class RefusalLeaks(Leaking):
    """When a ring is refused at its nth block, the blocks before it stay."""

    class Device(Staged.Device):
        NOUNS: ClassVar = Layer.Device.NOUNS
        layer: RefusalLeaks

        def staging_ring(self, **options: Any) -> Any:
            try:
                return super().staging_ring(**options)
            except BudgetError:
                self.layer.leaked.append(self.target.budget.reserve(options["buffer_size"]))
                raise


@mutant("ring.returned-while-read", breaks="ring.budgeted", because="for a block that the device still reads")
class ReturnedWhileRead(NotCharged):
    """Close gives the blocks back at once, though the device still reads them."""

    class Device(Layer.Device):
        NOUNS: ClassVar = Layer.Device.NOUNS

    class Ring(Layer.Ring):
        layer: ReturnedWhileRead

        def close(self) -> None:
            self.target.close()
            self.layer.hidden = self.target.ring_count * self.target.buffer_size


@mutant(
    "ring.derived-forgotten", breaks="ring.stale-view", because="derived arrays alive: nothing was raised"
)
class DerivedForgotten(Shadowed):
    """Commit looks at the arrays that it handed out, and not for arrays derived from them."""


@mutant("ring.held-and-committed", breaks="ring.stale-view", because="a commit that raised changed")
class HeldAndCommitted(Staged):
    """Commit has done its work before it finds the derived array and raises."""

    class Slice(Staged.Slice):
        def commit(self, target: Any, offset: int = 0) -> None:
            try:
                self.target.commit(target.target, offset)
            except ViewHeld:
                self.ring.target.allocate(self.target.nbytes).commit(target.target, offset)
                raise


@mutant("ring.view-after-commit", breaks="ring.stale-view", because="where SliceSpent was expected")
class ViewAfterCommit(Layer):
    """A committed slice goes on handing out its view."""

    class Slice(Layer.Slice):
        @property
        def view(self) -> Any:
            try:
                return self.target.view
            except SliceSpent:
                return np.zeros(self.target.nbytes, np.uint8)


@mutant("ring.committed-twice", breaks="ring.stale-view", because="commit .*where SliceSpent was expected")
class CommittedTwice(Layer):
    """A second commit passes without a word."""

    class Slice(Layer.Slice):
        def commit(self, target: Any, offset: int = 0) -> None:
            try:
                self.target.commit(target.target, offset)
            except SliceSpent:
                pass


@mutant("ring.late-write-arrives", breaks="ring.stale-view", because="reached the device")
class LateWriteArrives(Shadowed):
    """An array that was kept still shows the block, and the device sees what is written to it late."""

    class Ring(Shadowed.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.committed: list[Any] = []

        def advance(self, timeout: float | None = None) -> Any:
            point = self.target.advance(timeout)
            for memory, target, offset in self.committed:
                point = self.spare.upload(memory, target, offset)
            self.committed = []
            return self.layer.wrap("Point", point)

    class Slice(Shadowed.Slice):
        def commit(self, target: Any, offset: int = 0) -> None:
            super().commit(target, offset)
            self.ring.committed.append((self.memory, target.target, offset))


@mutant("ring.late-use-crashes", breaks="ring.stale-view", because="a stale view ended the process")
class LateUseCrashes(Layer):
    """Using a slice whose memory is unmapped ends the process."""

    class Slice(Layer.Slice):
        @property
        def view(self) -> Any:
            try:
                return self.target.view
            except SliceSpent:
                os._exit(139)


@mutant("ring.closed-is-full", breaks="ring.closed", because="allocate after close: nothing was raised")
class ClosedIsFull(Layer):
    """A closed ring looks like a full one."""

    class Ring(Layer.Ring):
        def allocate(self, nbytes: int) -> Any:
            return None if self.target.closed else self.real.allocate(nbytes)


@mutant("ring.close-forgets", breaks="ring.closed", because="committed before close")
class CloseForgets(Deferred):
    """What was committed and not advanced is lost when the ring closes."""


@mutant(
    "ring.close-leaves-waiters", breaks="ring.closed", because="a reserve that waits .* did not come back"
)
class CloseLeavesWaiters(Layer):
    """Close wakes nobody who waits for room: they find out when they next look."""

    class Ring(Layer.Ring):
        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            if self.target.closed:
                return self.real.reserve(nbytes, timeout)
            try:
                return self.real.reserve(nbytes, timeout)
            except Closed:
                threading.Event().wait(WHILE)
                raise


@mutant(
    "ring.close-waits-for-slices", breaks="ring.closed", because="close with slices open .* did not come back"
)
class CloseWaitsForSlices(Staged):
    """Close waits a while for every slice to be committed or released."""

    class Ring(Staged.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.open: set[Any] = set()

        def adopt(self, slot: Any) -> Any:
            if slot is not None:
                self.open.add(slot)
            return super().adopt(slot)

        def close(self) -> None:
            if self.open and not self.target.closed:
                threading.Event().wait(WHILE)
            self.target.close()

    class Slice(Staged.Slice):
        def commit(self, target: Any, offset: int = 0) -> None:
            self.target.commit(target.target, offset)
            self.ring.open.discard(self)

        def release(self) -> None:
            self.target.release()
            self.ring.open.discard(self)


@mutant("ring.closed-twice", breaks="ring.closed", because="stats or close after close raised Closed")
class ClosedTwice(Layer):
    """The second close raises."""

    class Ring(Layer.Ring):
        def close(self) -> None:
            if self.target.closed:
                raise Closed("the ring was closed")
            self.target.close()


@mutant("ring.closed-figures-gone", breaks="ring.closed", because="stats or close after close raised Closed")
class ClosedFiguresGone(Layer):
    """Nobody can ask a closed ring how it went."""

    class Ring(Layer.Ring):
        def stats(self) -> Any:
            if self.target.closed:
                raise Closed("the ring was closed")
            return self.target.stats()
