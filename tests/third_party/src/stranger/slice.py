"""Blocks of a staging ring, and the slices that are cut from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from forge3d_core.errors import ForeignObject, OutOfRange, SliceSpent, UsageError
from stranger.given import two, whole
from stranger.lent import Lent
from stranger.memory import Buffer, Memory, Store, Texture, rows_in
from stranger.shield import shielded
from stranger.timeline import Point, fresh

if TYPE_CHECKING:
    from stranger.ring import Ring


@attrs.define(eq=False)
class Block:
    index: int
    store: Store
    used: int = 0
    staged: int = 0
    sealed: bool = False
    point: Point | None = None
    work: list[Callable[[], None]] = attrs.field(factory=list)
    targets: list[Memory] = attrs.field(factory=list)
    open: dict[object, int] = attrs.field(factory=dict)  # key of a slice -> thread that allocated it

    def free(self) -> bool:
        """Whether it takes slices, now that the device may have finished with it."""
        if self.point is not None and not self.point.done and self.point.timeline.failure is not None:
            raise fresh(self.point.timeline.failure)
        if self.point is not None and self.point.done:
            self.clear()
        return not self.sealed

    def clear(self) -> None:
        if self.store.reached:
            self.store.renew()
        self.used = self.staged = 0
        self.sealed, self.point, self.work, self.targets = False, None, [], []


@shielded
class Slice:
    def __init__(self, ring: Ring, block: Block, offset: int, nbytes: int) -> None:
        self.nbytes, self.offset, self.ring_index = nbytes, offset, block.index
        self._ring, self._block = ring, block
        self.key = key = object()
        ended, held = ring.ended, ring.held
        held.add(key)

        def freed() -> None:  # by the collector, if the slice was dropped: takes no lock
            ended.append((block, key))
            held.discard(key)

        self._lent: Lent | None = Lent(self.bytes, True, freed)
        self._view: Any = None

    @property
    def bytes(self) -> Any:
        return self._block.store.data[self.offset : self.offset + self.nbytes]

    @property
    def view(self) -> Any:
        lent = self._alive()
        if self._view is None:
            self._view = lent.array(np.uint8, None)
        return self._view

    def array(self, dtype: Any, shape: int | tuple[int, ...] | None = None) -> Any:
        return self._alive().array(dtype, shape)

    def commit(self, target: Any, offset: int = 0) -> None:
        self._alive()
        if not isinstance(target, Buffer):
            raise ForeignObject(f"{target!r} is not a buffer of this device")
        target.check(self._ring.device)
        offset = whole(offset, "offset")
        target.region(offset, self.nbytes)
        there = target.bytes(offset, self.nbytes)
        self._give(target, lambda here: np.copyto(there, here))

    def commit_rows(
        self,
        target: Any,
        *,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        row_pitch: int | None = None,
    ) -> None:
        self._alive()
        if not isinstance(target, Texture):
            raise ForeignObject(f"{target!r} is not a texture of this device")
        target.check(self._ring.device)
        origin = two(origin, "origin")
        size = (target.width - origin[0], target.height - origin[1]) if size is None else two(size, "size")
        target.region(origin, size)
        row = size[0] * target.format.block_bytes
        pitch = row if row_pitch is None else whole(row_pitch, "row_pitch")
        if pitch < row:
            raise UsageError(f"row_pitch {pitch} does not hold a row of {row} bytes")
        if size[1] and (size[1] - 1) * pitch + row > self.nbytes:
            raise OutOfRange(f"{size[1]} rows of pitch {pitch} do not fit in {self.nbytes} bytes")
        if not all(size):
            self._give(target, lambda here: None)
            return
        there = target.texels(origin, size)
        self._give(target, lambda here: np.copyto(there, rows_in(here, 0, pitch, (size[1], row))))

    def release(self) -> None:
        if self._lent is not None:
            self._end()
            self._ring.flush()

    def revoke(self) -> None:
        lent, self._lent, self._view = self._lent, None, None
        if lent is not None:
            lent.end()

    def _give(self, target: Memory, copy: Callable[[Any], None]) -> None:
        ring, block, here = self._ring, self._block, self.bytes
        with ring.changed:
            if not self._end():
                here = here.copy()  # what somebody still reaches may change
            block.work.append(partial(copy, here))
            block.targets.append(target)
            block.staged += self.nbytes
            ring.staged += self.nbytes
        ring.flush()

    def _end(self) -> bool:
        """Take the arrays back, and say whether nobody has them any more."""
        lent = self._alive()
        self._view = None
        alone = lent.take_back()  # or ViewHeld, with nothing changed
        if not alone:
            self._block.store.reached = True
        self._lent = None
        with self._ring.changed:
            self._block.open.pop(self.key, None)
            self._ring.changed.notify_all()
        return alone

    def _alive(self) -> Lent:
        self._ring.check()
        if self._lent is None:
            raise SliceSpent("this slice was committed or released; allocate another")
        return self._lent
