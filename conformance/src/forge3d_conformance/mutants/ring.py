"""Rings that misplace slices, miscount, or do not know how large they are."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import attrs

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.staged import WHILE, Shadowed, Staged
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import FenceTimeout, TooLarge

OTHERS = "shows what others wrote|bytes of other slices"


@mutant("ring.cursor-rounded-down", breaks="ring.disjoint", because=OTHERS)
class CursorRoundedDown(Shadowed):
    """The cursor is aligned downwards, so a slice starts within the last bytes of the one before."""

    class Ring(Shadowed.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.ends: dict[int, int] = {}

        def place(self, slot: Any) -> int:
            block, alignment = slot.target.ring_index, self.device.limits.staging_alignment
            end = self.ends.get(block, 0) if slot.target.offset else 0
            start: int = end // alignment * alignment
            self.ends[block] = start + slot.target.nbytes
            return start


@mutant("ring.cursor-of-each-thread", breaks="ring.disjoint", because=OTHERS)
class CursorOfEachThread(Shadowed):
    """The cursor is read and written without a lock: two threads get the same bytes."""

    class Ring(Shadowed.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.mine = threading.local()

        def place(self, slot: Any) -> int:
            starts = self.mine.__dict__.setdefault(slot.target.ring_index, [])
            if slot.target.offset == 0:
                starts.clear()
            starts.append(slot.target.nbytes)
            return int(sum(starts) - slot.target.nbytes)


@mutant("ring.offset-packed", breaks="ring.aligned", because="is not aligned")
class OffsetPacked(Layer):
    """Slices follow each other without a gap."""

    class Slice(Layer.Slice):
        @property
        def offset(self) -> int:
            return int(self.target.offset + (self.target.nbytes % 4 if self.target.offset else 0))


@mutant("ring.size-rounded-up", breaks="ring.aligned", because="were asked for")
class SizeRoundedUp(Layer):
    """A slice is as large as the API's alignment wants, not as large as was asked."""

    class Ring(Layer.Ring):
        def allocate(self, nbytes: int) -> Any:
            return self.real.allocate(min(-(-nbytes // 4) * 4, self.target.buffer_size))


class Deferred(Staged):
    """Commits are kept back until advance, which delivers them block by block. No defect yet."""

    class Ring(Staged.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.blocks: list[list[Any]] = []
            self.index = -1
            self._scratch: Any = None

        @property
        def scratch(self) -> Any:
            if self._scratch is None:
                self._scratch = self.device.create_buffer(self.target.buffer_size)
            return self._scratch

        def keep(self, slot: Any, target: Any, offset: int) -> None:
            if slot.target.ring_index != self.index or not self.blocks:
                self.blocks.append([])
                self.index = slot.target.ring_index
            self.blocks[-1].append((slot.target.view.copy(), target.target, offset))

        def order(self, blocks: list[list[Any]]) -> list[list[Any]]:
            return blocks

        def advance(self, timeout: float | None = None) -> Any:
            point = self.target.advance(timeout)
            for block in self.order(self.blocks):
                for data, target, offset in block:
                    point = self.spare.upload(data, target, offset)
            self.blocks = []
            return self.layer.wrap("Point", point)

    class Slice(Staged.Slice):
        def commit(self, target: Any, offset: int = 0) -> None:
            self.ring.keep(self, target, offset)
            self.target.commit(self.ring.scratch)


@mutant("ring.left-block-lost", breaks="ring.wraps", because="after wrapping around")
class LeftBlockLost(Deferred):
    """What was committed in a block is forgotten when the ring moves on by itself."""

    class Ring(Deferred.Ring):
        def order(self, blocks: list[list[Any]]) -> list[list[Any]]:
            return blocks[-1:]


@mutant("ring.blocks-overtake", breaks="ring.wraps", because="after wrapping around")
class BlocksOvertake(Deferred):
    """The block in use is submitted before those that the ring has left."""

    class Ring(Deferred.Ring):
        def order(self, blocks: list[list[Any]]) -> list[list[Any]]:
            return blocks[::-1]


@mutant("ring.wraps-one-short", breaks="ring.wraps", because="lies in block ring_index")
class WrapsOneShort(Layer):
    """From the block before the last the ring goes to the first."""

    class Slice(Layer.Slice):
        @property
        def ring_index(self) -> int:
            return int(self.target.ring_index) % 2


@mutant("ring.too-large-is-none", breaks="ring.too-large", because="allocate.*nothing was raised")
class TooLargeIsNone(Layer):
    """What can never fit looks like a ring that is full for now."""

    class Ring(Layer.Ring):
        def allocate(self, nbytes: int) -> Any:
            return None if nbytes > self.target.buffer_size else self.real.allocate(nbytes)


@mutant("ring.too-large-waits", breaks="ring.too-large", because="did not come back within|must not wait")
class TooLargeWaits(Layer):
    """A reserve that can never be served waits for room before it says so."""

    class Ring(Layer.Ring):
        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            if nbytes > self.target.buffer_size:
                threading.Event().wait(WHILE if timeout is None else min(timeout, WHILE))
            return self.real.reserve(nbytes, timeout)


@mutant("ring.full-is-too-large", breaks="ring.too-large", because="TooLarge.*full|full.*TooLarge")
class FullIsTooLarge(Layer):
    """A ring that is full for now says that the request can never fit."""

    class Ring(Layer.Ring):
        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            try:
                return self.real.reserve(nbytes, timeout)
            except FenceTimeout:
                raise TooLarge(f"{nbytes} bytes do not fit") from None


@mutant("ring.largest-refused", breaks="ring.too-large", because="TooLarge")
class LargestRefused(Layer):
    """A slice of exactly buffer_size is called too large."""

    class Ring(Layer.Ring):
        def allocate(self, nbytes: int) -> Any:
            if nbytes >= self.target.buffer_size:
                raise TooLarge(f"{nbytes} bytes do not fit")
            return self.real.allocate(nbytes)


@mutant("ring.limit-rounded-up", breaks="ring.too-large", because="allocate.*nothing was raised")
class LimitRoundedUp(Staged):
    """The block was rounded up for the API, and the rest is handed out too."""

    class Ring(Staged.Ring):
        def allocate(self, nbytes: int) -> Any:
            size = self.target.buffer_size
            if size < nbytes <= -(-size // 64) * 64:
                nbytes = size
            return super().allocate(nbytes)


@mutant("ring.count-capped", breaks="ring.count", because="a ring of 4 blocks says it has")
class CountCapped(Layer):
    """Nobody gets more than three blocks."""

    class Device(Layer.Device):
        NOUNS: ClassVar = Layer.Device.NOUNS

        def staging_ring(self, *, ring_count: int = 3, **options: Any) -> Any:
            return self.real.staging_ring(ring_count=min(ring_count, 3), **options)


@mutant("ring.count-clamped", breaks="ring.count", because="blocks: nothing was raised")
class CountClamped(Layer):
    """A count out of range becomes the nearest that is in it."""

    class Device(Layer.Device):
        NOUNS: ClassVar = Layer.Device.NOUNS

        def staging_ring(self, *, ring_count: Any = 3, **options: Any) -> Any:
            if isinstance(ring_count, int):
                ring_count = max(1, min(ring_count, 8))
            return self.real.staging_ring(ring_count=ring_count, **options)


@mutant("ring.one-block-idle", breaks="ring.count", because="blocks could not be had")
class OneBlockIdle(Layer):
    """Full and empty look alike to two indices, so one block of several is never used."""

    class Device(Layer.Device):
        NOUNS: ClassVar = Layer.Device.NOUNS

        def staging_ring(self, *, ring_count: Any = 3, **options: Any) -> Any:
            used = ring_count - 1 if ring_count in range(2, 9) else ring_count
            ring = self.real.staging_ring(ring_count=used, **options)
            ring.ring_count = ring_count
            return ring

    class Ring(Layer.Ring):
        ring_count: int

        def stats(self) -> Any:
            return attrs.evolve(self.target.stats(), ring_count=self.ring_count)
