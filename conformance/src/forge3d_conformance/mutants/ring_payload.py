"""Rings that bring other bytes than they were given, or bring them elsewhere."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.staged import Shadowed, Staged
from forge3d_conformance.mutants.wrap import Layer, unwrap


@mutant("ring.view-one-byte-late", breaks="ring.payload", because="values differ")
class ViewOneByteLate(Shadowed):
    """The view starts one byte after the slice does."""

    class Slice(Shadowed.Slice):
        @property
        def view(self) -> Any:
            _ = self.target.view
            whole = self.ring.shadow[self.target.ring_index]
            return whole[self.start + 1 : self.start + 1 + self.target.nbytes]


@mutant("ring.tail-rounded-down", breaks="ring.payload", because="values differ")
class TailRoundedDown(Staged):
    """The copy is as long as the API's 4-byte alignment allows: up to three bytes do not arrive."""

    class Slice(Layer.Slice):
        ring: Any

        def commit(self, target: Any, offset: int = 0) -> None:
            data = self.target.view.copy()
            whole = data.nbytes // 4 * 4
            if whole == data.nbytes or offset < 0 or offset + data.nbytes > target.target.nbytes:
                self.target.commit(target.target, offset)
                return
            self.target.release()
            if whole:
                slot = self.ring.target.reserve(whole, 1)
                slot.view[:] = data[:whole]
                slot.commit(target.target, offset)


@mutant("ring.tail-rounded-up", breaks="ring.payload", because="values differ")
class TailRoundedUp(Staged):
    """The copy is rounded up to the API's alignment and writes over the target's next bytes."""

    class Ring(Staged.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.ends: list[tuple[Any, int]] = []

        def advance(self, timeout: float | None = None) -> Any:
            point = self.real.advance(timeout)
            while self.ends:
                target, end = self.ends.pop()
                if end < target.nbytes:
                    self.spare.upload(np.zeros(1, np.uint8), target, end).wait(5)
            return point

    class Slice(Staged.Slice):
        def commit(self, target: Any, offset: int = 0) -> None:
            self.target.commit(target.target, offset)
            if self.target.nbytes % 4:
                self.ring.ends.append((target.target, offset + self.target.nbytes))


@mutant("ring.offset-rounded-down", breaks="ring.payload", because="values differ")
class OffsetRoundedDown(Layer):
    """The target offset is aligned downwards, without a word."""

    class Slice(Layer.Slice):
        def commit(self, target: Any, offset: int = 0) -> None:
            self.target.commit(target.target, offset // 4 * 4 if offset >= 0 else offset)


@mutant("ring.last-chunk-lost", breaks="ring.payload", because="upload of.*values differ")
class LastChunkLost(Layer):
    """An upload larger than a block sends whole blocks only."""

    class Ring(Layer.Ring):
        def upload(self, data: Any, target: Any, offset: int = 0, **how: Any) -> Any:
            size, array = self.target.buffer_size, np.asarray(data)
            if array.nbytes > size and array.ndim == 1 and array.nbytes % size:
                array = array.view(np.uint8)[: array.nbytes // size * size]
            return self.real.upload(array, target, offset, **how)


@mutant("ring.laps-repeat", breaks="ring.payload", because="upload of.*values differ")
class LapsRepeat(Layer):
    """An upload larger than the ring sends the bytes of the first lap again."""

    class Ring(Layer.Ring):
        def upload(self, data: Any, target: Any, offset: int = 0, **how: Any) -> Any:
            array, lap = np.asarray(data), self.target.buffer_size * self.target.ring_count
            if array.nbytes > lap and array.dtype == np.uint8 and array.ndim == 1:
                array = np.resize(array[:lap], array.size)
            return self.real.upload(array, target, offset, **how)


@mutant("ring.strides-ignored", breaks="ring.payload", because="upload of an array")
class StridesIgnored(Layer):
    """An array's memory is sent as it lies, whatever its order of axes."""

    class Ring(Layer.Ring):
        def upload(self, data: Any, target: Any, offset: int = 0, **how: Any) -> Any:
            return self.real.upload(np.asarray(data).ravel(order="K"), target, offset, **how)


@mutant("ring.out-of-range-clipped", breaks="ring.payload", because="nothing was raised")
class OutOfRangeClipped(Layer):
    """What does not fit in the target is cut off instead of refused."""

    class Ring(Layer.Ring):
        def upload(self, data: Any, target: Any, offset: int = 0, **how: Any) -> Any:
            array = np.asarray(data)
            room = max(0, unwrap(target).nbytes - offset) if offset >= 0 else 0
            if array.dtype == np.uint8 and array.ndim == 1 and array.nbytes > room:
                array, offset = array[:room], offset if room else 0
            return self.real.upload(array, target, offset, **how)


class Late(Staged):
    """Uploads of which a part is read again when somebody waits for them. No defect yet."""

    @staticmethod
    def late(ring: Any, nbytes: int) -> int:
        """Return from which byte on the source is read too late; here from its end."""
        return nbytes

    class Ring(Staged.Ring):
        layer: Late

        def upload(self, data: Any, target: Any, offset: int = 0, **how: Any) -> Any:
            point = self.real.upload(data, target, offset, **how)
            if (
                isinstance(data, np.ndarray)
                and (start := self.layer.late(self.target, data.nbytes)) < data.nbytes
            ):
                point.again = lambda: self.spare.upload(data[start:], unwrap(target), offset + start).wait(5)
            return point

    class Point(Layer.Point):
        NOUNS: ClassVar = Layer.Point.NOUNS
        again: Any = None

        def wait(self, timeout: float | None = None) -> None:
            self.target.wait(timeout)
            if self.again is not None:
                self.again()


@mutant("ring.source-read-late", breaks="ring.source-captured", because="its source overwritten meanwhile")
class SourceReadLate(Late):
    """The caller's array is read when the copy runs, not during the call."""

    @staticmethod
    def late(ring: Any, nbytes: int) -> int:
        return 0


@mutant(
    "ring.last-chunk-read-late", breaks="ring.source-captured", because="its source overwritten meanwhile"
)
class LastChunkReadLate(Late):
    """Of an upload larger than the ring, what had to wait for room is read after the call."""

    @staticmethod
    def late(ring: Any, nbytes: int) -> int:
        return int(ring.buffer_size * ring.ring_count)


@mutant("ring.rows-tight", breaks="ring.rows", because="rows with a pitch")
class RowsTight(Layer):
    """The row pitch that was given is ignored for the least there can be."""

    class Slice(Layer.Slice):
        def commit_rows(self, target: Any, *, row_pitch: int | None = None, **where: Any) -> None:
            self.target.commit_rows(target.target, **where)


@mutant("ring.rows-transposed-origin", breaks="ring.rows", because="texels of .* values differ|OutOfRange")
class RowsTransposedOrigin(Layer):
    """The origin is taken as (y, x)."""

    class Ring(Layer.Ring):
        def upload(self, data: Any, target: Any, offset: int = 0, *, origin: Any = (0, 0), **how: Any) -> Any:
            return self.real.upload(data, target, offset, origin=origin[::-1], **how)


@mutant("ring.rows-last-one-lost", breaks="ring.rows", because="values differ")
class RowsLastOneLost(Layer):
    """Of an image that takes several blocks the last row is forgotten."""

    class Ring(Layer.Ring):
        def upload(self, data: Any, target: Any, offset: int = 0, **how: Any) -> Any:
            array = np.asarray(data)
            if array.nbytes > self.target.buffer_size and array.ndim == 3:
                array = array[:-1]
            return self.real.upload(array, target, offset, **how)
