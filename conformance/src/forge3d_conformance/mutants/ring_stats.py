"""Rings whose figures are wrong."""

from __future__ import annotations

from typing import Any

import attrs

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer


class Miscounting(Layer):
    """Statistics that somebody falsifies. No defect yet."""

    class Ring(Layer.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.last: Any = None

        def stats(self) -> Any:
            seen = self.target.stats()
            told, self.last = attrs.evolve(seen, **self.falsify(seen, self.last or seen)), seen
            return told

        def falsify(self, seen: Any, last: Any) -> dict[str, int]:
            return {}


@mutant("ring.bytes-drift", breaks="ring.stats", because="bytes_staged is")
class BytesDrift(Miscounting):
    """Bytes are counted as the block's cursor moves, padding and all."""

    class Ring(Miscounting.Ring):
        def falsify(self, seen: Any, last: Any) -> dict[str, int]:
            return {"bytes_staged": -(-seen.bytes_staged // 4) * 4}


@mutant("ring.flight-never-lands", breaks="ring.stats", because="bytes_in_flight is")
class FlightNeverLands(Miscounting):
    """Bytes in flight are counted down when a block is used again, not when the device is done."""

    class Ring(Miscounting.Ring):
        def falsify(self, seen: Any, last: Any) -> dict[str, int]:
            return {"bytes_in_flight": seen.bytes_in_flight or (seen.bytes_staged if seen.submissions else 0)}


@mutant("ring.flight-never-shown", breaks="ring.stats", because="bytes_in_flight is 0 where")
class FlightNeverShown(Miscounting):
    """What was submitted is taken to have arrived."""

    class Ring(Miscounting.Ring):
        def falsify(self, seen: Any, last: Any) -> dict[str, int]:
            return {"bytes_in_flight": 0}


@mutant("ring.stalls-not-counted", breaks="ring.stats", because="buffer_stalls is")
class StallsNotCounted(Miscounting):
    """A second stall in a row is taken for the first."""

    class Ring(Miscounting.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.stalled, self.uncounted = False, 0

        def allocate(self, nbytes: int) -> Any:
            slot = self.real.allocate(nbytes)
            self.uncounted += slot is None and self.stalled
            self.stalled = slot is None
            return slot

        def falsify(self, seen: Any, last: Any) -> dict[str, int]:
            return {"buffer_stalls": seen.buffer_stalls - self.uncounted}


@mutant("ring.index-one-behind", breaks="ring.stats", because="current_ring_index is")
class IndexOneBehind(Miscounting):
    """The ring index is that of the last submission, not of the block in use."""

    class Ring(Miscounting.Ring):
        def falsify(self, seen: Any, last: Any) -> dict[str, int]:
            behind = (seen.current_ring_index - 1) % seen.ring_count
            return {"current_ring_index": behind if seen.submissions else seen.current_ring_index}


@mutant("ring.failed-allocations-counted", breaks="ring.stats", because="allocations is")
class FailedAllocationsCounted(Miscounting):
    """An allocation counts before it is known whether there is room."""

    class Ring(Miscounting.Ring):
        def falsify(self, seen: Any, last: Any) -> dict[str, int]:
            return {"allocations": seen.allocations + seen.buffer_stalls}


@mutant("ring.empty-submissions-counted", breaks="ring.stats", because="submissions is")
class EmptySubmissionsCounted(Layer):
    """Every advance counts as a submission."""

    class Ring(Layer.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.empty = 0

        def advance(self, timeout: float | None = None) -> Any:
            before = self.target.stats().submissions
            point = self.real.advance(timeout)
            self.empty += before == self.target.stats().submissions
            return point

        def stats(self) -> Any:
            seen = self.target.stats()
            return attrs.evolve(seen, submissions=seen.submissions + self.empty)


@mutant("ring.torn-snapshot", breaks="ring.stats", because="is of no instant|allocations is")
class TornSnapshot(Miscounting):
    """The figures of a snapshot are read one after the other, with no lock."""

    class Ring(Miscounting.Ring):
        def falsify(self, seen: Any, last: Any) -> dict[str, int]:
            return {"allocations": last.allocations}
