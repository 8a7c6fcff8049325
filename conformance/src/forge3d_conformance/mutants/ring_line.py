"""Lines in which people wait for a ring and are not served in turn, and advances that forget somebody."""

from __future__ import annotations

import threading
from typing import Any

import attrs

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.staged import WHILE, Staged
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import FenceTimeout, SliceOutstanding


class Line(Layer):
    """Reserves that wait in a line of the layer's own. No defect yet."""

    class Ring(Layer.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.line: list[object] = []
            self.moved = threading.Condition()
            self.waited = 0

        def stats(self) -> Any:
            seen = self.target.stats()
            return attrs.evolve(seen, buffer_stalls=self.waited)

        def allocate(self, nbytes: int) -> Any:
            slot = self.real.allocate(nbytes)
            self.waited += slot is None
            return slot

        def next(self) -> int:
            """Return whose turn it is, as an index of the line."""
            return 0

        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            ticket = object()
            with self.moved:
                slot = None if self.line else self.attempt(nbytes)
                if slot is not None:
                    return slot
                self.line.append(ticket)
                self.waited += 1
            for _ in range(int(100 * (5 if timeout is None else timeout)) + 1):
                with self.moved:
                    if self.line[self.next()] is ticket:
                        slot = self.attempt(nbytes)
                        if slot is not None:
                            self.line.remove(ticket)
                            return slot
                    self.moved.wait(0.01)
            with self.moved:
                self.line.remove(ticket)
            raise FenceTimeout("no room")

        def attempt(self, nbytes: int) -> Any:
            try:
                return self.real.reserve(nbytes, 0)
            except FenceTimeout:
                return None


@mutant("ring.last-come-first-served", breaks="ring.reserve-waits", because="served in the order")
class LastComeFirstServed(Line):
    """Who came last is woken first."""

    class Ring(Line.Ring):
        def next(self) -> int:
            return -1


@mutant("ring.small-ones-overtake", breaks="ring.reserve-waits", because="overtook what waits")
class SmallOnesOvertake(Staged):
    """A request that fits beside the open slices does not stand in line behind a larger one."""

    class Ring(Staged.Ring):
        waiting = 0
        open = 0

        def adopt(self, slot: Any) -> Any:
            if slot is not None:
                self.open += slot.target.nbytes
            return super().adopt(slot)

        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            if self.waiting and 0 < self.open <= self.target.buffer_size - nbytes:
                return self.adopt(self.layer.wrap("Slice", self.spare.reserve(nbytes, timeout)))
            self.waiting += 1
            try:
                return super().reserve(nbytes, timeout)
            finally:
                self.waiting -= 1

    class Slice(Staged.Slice):
        def release(self) -> None:
            self.target.release()
            self.ring.open -= self.target.nbytes

        def commit(self, target: Any, offset: int = 0) -> None:
            self.target.commit(target.target, offset)
            self.ring.open -= self.target.nbytes


@mutant("ring.timeout-ignored", breaks="ring.reserve-waits", because="did not come back")
class TimeoutIgnored(Layer):
    """reserve waits until there is room, however long it was told to."""

    class Ring(Layer.Ring):
        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            return self.real.reserve(nbytes)


@mutant("ring.times-out-late", breaks="ring.reserve-waits", because="did not come back|must not wait")
class TimesOutLate(Layer):
    """A reserve whose time is up says so when it next looks, seconds later."""

    class Ring(Layer.Ring):
        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            try:
                return self.real.reserve(nbytes, timeout)
            except FenceTimeout:
                threading.Event().wait(WHILE)
                raise


@mutant("ring.timeout-is-none", breaks="ring.reserve-waits", because="nothing was raised")
class TimeoutIsNone(Layer):
    """A reserve that timed out returns None, like allocate."""

    class Ring(Layer.Ring):
        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            try:
                return self.real.reserve(nbytes, timeout)
            except FenceTimeout:
                return None


@mutant("ring.ghost-in-line", breaks="ring.reserve-waits", because="second in line")
class GhostInLine(Layer):
    """Who has given up still stands in line, and nobody behind is ever served."""

    class Ring(Layer.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.waiting = 0
            self.ghost = False

        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            behind = self.waiting
            self.waiting += 1
            try:
                slot = self.real.reserve(nbytes, timeout)
            except FenceTimeout:
                self.ghost = self.waiting > 1
                raise
            finally:
                self.waiting -= 1
            if behind and self.ghost:
                slot.release()
                threading.Event().wait(5)
                raise FenceTimeout("never the first in line")
            return slot


@mutant("ring.not-woken", breaks="ring.reserve-waits", because="not woken|did not come back|second in line")
class NotWoken(Layer):
    """A reserve looks once and then sleeps until its time is up."""

    class Ring(Layer.Ring):
        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            try:
                return self.real.reserve(nbytes, 0)
            except FenceTimeout:
                threading.Event().wait(10 if timeout is None else timeout)
                raise


@mutant("ring.empty-advance-is-done", breaks="ring.covers", because="empty advance is done before")
class EmptyAdvanceIsDone(Staged):
    """With nothing to submit advance returns a point that was complete from the start."""

    class Ring(Staged.Ring):
        def advance(self, timeout: float | None = None) -> Any:
            before = self.target.stats().submissions
            point = self.real.advance(timeout)
            if self.target.stats().submissions == before:
                return self.layer.wrap("Point", point.target.timeline.point(0))
            return point


@mutant(
    "ring.point-of-the-block-before", breaks="ring.covers", because="the device: .* values differ|done before"
)
class PointOfTheBlockBefore(Staged):
    """advance returns the point before the one that it submitted."""

    class Ring(Staged.Ring):
        def advance(self, timeout: float | None = None) -> Any:
            point = self.real.advance(timeout).target
            return self.layer.wrap("Point", point.timeline.point(point.value - 1))


@mutant("ring.empty-advance-submits", breaks="ring.covers", because="nothing committed submitted something")
class EmptyAdvanceSubmits(Staged):
    """Every advance submits, be it nothing."""

    class Ring(Staged.Ring):
        def advance(self, timeout: float | None = None) -> Any:
            before = self.target.stats().submissions
            point = self.real.advance(timeout)
            if self.target.stats().submissions > before:
                return point
            empty = self.device.command_list().fill(self.device.create_buffer(4), 0)
            return self.layer.wrap(
                "Point", self.device.submit(empty, lane=self.options.get("lane", "upload"))
            )


@mutant("ring.own-slices-forgotten", breaks="ring.covers", because="same thread: nothing was raised")
class OwnSlicesForgotten(Layer):
    """advance passes over slices that the calling thread has open."""

    class Ring(Layer.Ring):
        def advance(self, timeout: float | None = None) -> Any:
            try:
                return self.real.advance(timeout)
            except SliceOutstanding:
                return None


@mutant("ring.advance-times-out-late", breaks="ring.covers", because=r"advance\(0\.01\) did not come back")
class AdvanceTimesOutLate(Layer):
    """An advance waits for the slices of other threads longer than its timeout."""

    class Ring(Layer.Ring):
        def advance(self, timeout: float | None = None) -> Any:
            try:
                return self.real.advance(timeout)
            except FenceTimeout:
                threading.Event().wait(WHILE)
                raise


@mutant("ring.others-not-waited-for", breaks="ring.covers", because="another thread: nothing was raised")
class OthersNotWaitedFor(Layer):
    """advance returns though another thread is still writing what it should cover."""

    class Ring(Layer.Ring):
        def advance(self, timeout: float | None = None) -> Any:
            try:
                return self.real.advance(timeout)
            except FenceTimeout:
                return None
