"""Rings that use a block again too early or never."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import attrs

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.staged import WHILE, Staged
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import Busy, FenceTimeout, SliceOutstanding

EARLY = "was handed out while the device may still read it"


class Overwriting(Staged):
    """Slices given out though the ring is full: writing them changes what is in flight. No defect yet."""

    class Ring(Staged.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.flying: deque[tuple[Any, int, int]] = deque(maxlen=target.ring_count)

        def overwriting(self, nbytes: int) -> Any:
            """Return a slice over the memory of the oldest one in flight."""
            slot = self.adopt(self.layer.wrap("Slice", self.spare.reserve(nbytes, 1)))
            slot.victim = self.flying.popleft() if self.flying else None
            return slot

    class Slice(Staged.Slice):
        victim: Any = None

        def commit(self, target: Any, offset: int = 0) -> None:
            data = self.target.view.copy()
            self.target.commit(target.target, offset)
            if self.victim is None:
                self.ring.flying.append((target.target, offset, data.nbytes))
                return
            ring = self.ring.spare
            ring.advance(1)
            old, start, nbytes = self.victim
            ring.upload(data[:nbytes], old, start, timeout=1)


@mutant("ring.reused-one-fence-early", breaks="ring.no-reuse-before-signal", because=EARLY)
class ReusedOneFenceEarly(Overwriting):
    """A block comes back when the submission before its own is complete."""

    class Ring(Overwriting.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.points: deque[Any] = deque(maxlen=target.ring_count)

        def advance(self, timeout: float | None = None) -> Any:
            point = self.real.advance(timeout)
            self.points.append(point.target)
            return point

        def allocate(self, nbytes: int) -> Any:
            slot = super().allocate(nbytes)
            if slot is None and self.points:
                own = self.points[0]
                if own.timeline.point(own.value - 1).done:
                    return self.overwriting(nbytes)
            return slot


@mutant("ring.reserve-ignores-the-fence", breaks="ring.no-reuse-before-signal", because=EARLY)
class ReserveIgnoresTheFence(Overwriting):
    """allocate looks at the fence; reserve, written later, does not."""

    class Ring(Overwriting.Ring):
        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            slot = super().allocate(nbytes)
            return self.overwriting(nbytes) if slot is None else slot


@mutant("ring.another-lanes-fence", breaks="ring.no-reuse-before-signal", because=EARLY)
class AnotherLanesFence(Overwriting):
    """Blocks come back by the upload lane's fence, also on a ring of another lane."""

    class Ring(Overwriting.Ring):
        def allocate(self, nbytes: int) -> Any:
            slot = super().allocate(nbytes)
            upload = self.device.lanes["upload"].timeline
            idle = upload.completed == upload.submitted
            return self.overwriting(nbytes) if slot is None and idle else slot


@mutant(
    "ring.closed-while-read", breaks="ring.no-reuse-before-signal", because=f"closed ring's block {EARLY}"
)
class ClosedWhileRead(Overwriting):
    """The next ring gets the blocks of one that was closed, though the device may still read them."""

    def __init__(self) -> None:
        super().__init__()
        self.closed_in_flight: deque[tuple[Any, int, int]] = deque()

    class Ring(Overwriting.Ring):
        layer: ClosedWhileRead

        def close(self) -> None:
            if not self.target.closed and self.target.stats().bytes_in_flight:
                self.layer.closed_in_flight.extend(self.flying)
            self.target.close()

        def adopt(self, slot: Any) -> Any:
            slot = super().adopt(slot)
            if slot is not None and self.layer.closed_in_flight:
                slot.victim = self.layer.closed_in_flight.popleft()
            return slot


@mutant("ring.never-reused", breaks="ring.reuse-after-signal", because="did not come back")
class NeverReused(Layer):
    """Every block is used once."""

    class Ring(Layer.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.left = target.ring_count * target.buffer_size

        def allocate(self, nbytes: int) -> Any:
            self.left -= nbytes
            return self.real.allocate(nbytes) if self.left >= 0 else None


@mutant("ring.grows-instead", breaks="ring.reuse-after-signal", because="host-visible memory went from")
class GrowsInstead(Staged):
    """Instead of using a block again the ring takes a new one."""

    class Ring(Staged.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.more: list[Any] = []

        def advance(self, timeout: float | None = None) -> Any:
            point = self.real.advance(timeout)
            if self.target.stats().submissions >= self.target.ring_count and len(self.more) < 20:
                self.more.append(self.device.staging_ring(ring_count=1, buffer_size=self.target.buffer_size))
            return point


@mutant("ring.released-is-lost", breaks="ring.reuse-after-signal", because="did not come back")
class ReleasedIsLost(Layer):
    """A block of which a slice was released is never given out again."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0

    class Ring(Layer.Ring):
        layer: ReleasedIsLost

        def allocate(self, nbytes: int) -> Any:
            return None if self.layer.lost >= self.target.ring_count else self.real.allocate(nbytes)

    class Slice(Layer.Slice):
        layer: ReleasedIsLost

        def release(self) -> None:
            self.layer.lost += 1
            self.target.release()


@mutant(
    "ring.moves-on-without-submitting", breaks="ring.reuse-after-signal", because="memory did not come back"
)
class MovesOnWithoutSubmitting(Layer):
    """A block that the ring leaves by itself waits for an advance that nobody will call."""

    class Ring(Layer.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.since = 0

        def advance(self, timeout: float | None = None) -> Any:
            self.since = 0
            return self.real.advance(timeout)

        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            self.since += nbytes
            if self.since > self.target.buffer_size * self.target.ring_count:
                threading.Event().wait(0.1)
                raise FenceTimeout("no room")
            return self.real.reserve(nbytes, timeout)


@mutant("ring.full-waits", breaks="ring.full-is-none", because="full ring did not come back|must not wait")
class FullWaits(Layer):
    """allocate waits a while for room."""

    class Ring(Layer.Ring):
        def allocate(self, nbytes: int) -> Any:
            slot = self.real.allocate(nbytes)
            if slot is None:
                threading.Event().wait(WHILE)
            return slot


@mutant("ring.full-raises", breaks="ring.full-is-none", because="full ring raised Busy")
class FullRaises(Layer):
    """allocate raises where it should return None."""

    class Ring(Layer.Ring):
        def allocate(self, nbytes: int) -> Any:
            slot = self.real.allocate(nbytes)
            if slot is None:
                raise Busy("the ring is full")
            return slot


@mutant("ring.full-leaves-the-block", breaks="ring.full-is-none", because="full ring changed")
class FullLeavesTheBlock(Layer):
    """A request that finds no room has closed the current block before it knows."""

    class Ring(Layer.Ring):
        def allocate(self, nbytes: int) -> Any:
            slot = self.real.allocate(nbytes)
            if slot is None:
                try:
                    self.target.advance(0)
                except (SliceOutstanding, FenceTimeout):
                    pass
            return slot


@mutant("ring.full-counts-twice", breaks="ring.full-is-none", because="changed buffer_stalls")
class FullCountsTwice(Layer):
    """A stall is counted by allocate and again by what it asks."""

    class Ring(Layer.Ring):
        def stats(self) -> Any:
            seen = self.target.stats()
            return attrs.evolve(seen, buffer_stalls=2 * seen.buffer_stalls)


@mutant("ring.any-lane-blocks", breaks="ring.no-head-of-line", because="came to a stop|stay in flight")
class AnyLaneBlocks(Staged):
    """A block comes back when every lane of the device is idle."""

    class Ring(Staged.Ring):
        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            lanes = [lane.timeline for lane in self.device.lanes.values()]
            used = self.target.stats().submissions >= self.target.ring_count
            if used and any(timeline.completed < timeline.submitted for timeline in lanes):
                threading.Event().wait(0.1)
                raise FenceTimeout("some lane is busy")
            return self.real.reserve(nbytes, timeout)


@mutant("ring.oldest-first", breaks="ring.no-head-of-line", because="came to a stop|stay in flight")
class OldestFirst(Staged):
    """All rings share one queue of completions, and it stops at the first that has not come."""

    class Ring(Staged.Ring):
        def stats(self) -> Any:
            seen = self.target.stats()
            lanes = [lane.timeline for lane in self.device.lanes.values()]
            stuck = any(timeline.completed < timeline.submitted for timeline in lanes)
            return attrs.evolve(seen, bytes_in_flight=self.target.buffer_size) if stuck else seen
