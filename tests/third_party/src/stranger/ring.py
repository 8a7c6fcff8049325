"""The staging ring."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Any

import numpy as np

from forge3d_core.errors import (
    Closed,
    FenceTimeout,
    ForeignObject,
    SliceOutstanding,
    TooLarge,
    UsageError,
    ViewHeld,
)
from forge3d_core.protocols import RingStats
from stranger.clock import Deadline
from stranger.given import data_of, texel_of, two, whole
from stranger.holder import held_here
from stranger.memory import Buffer, Memory, Store, Texture
from stranger.shield import heed, shielded
from stranger.slice import Block, Slice
from stranger.timeline import Point

STEP = 64


@shielded
class Ring:
    block_type: type[Block] = Block

    def __init__(self, device: Any, ring_count: int, buffer_size: int, lane: str) -> None:
        ring_count = whole(ring_count, "ring_count")
        if not 1 <= ring_count <= 8 or buffer_size < 1:
            raise UsageError(
                f"a ring has 1 to 8 blocks of at least 1 byte, not {ring_count!r} of {buffer_size}"
            )
        self.device, self.ring_count, self.buffer_size, self.lane = device, ring_count, buffer_size, lane
        self.closed = False
        self.changed = threading.Condition(threading.RLock())
        self.ended: deque[tuple[Block, object]] = deque()
        self.held: set[object] = set()
        self.staged = 0
        self._blocks: list[Block] = []
        self._slices: weakref.WeakSet[Slice] = weakref.WeakSet()
        self._index = self._stalls = self._allocated = self._submissions = 0
        self._sealed: deque[Block] = deque()
        self._queue: deque[object] = deque()
        self._last: Point | None = None
        stores: list[Store] = []
        weakref.finalize(self, device.collected.extend, stores).atexit = False
        try:
            for index in range(ring_count):
                stores.append(device.take(buffer_size, "buffer", "host_visible"))
                self._blocks.append(self.block_type(index, stores[-1]))
        except BaseException:
            self._give_back()
            raise

    def check(self) -> None:
        self.device.check()
        if self.closed:
            raise Closed("the staging ring was closed")

    def allocate(self, nbytes: int) -> Slice | None:
        nbytes = self._fits(nbytes)
        with self.changed:
            found = self._place(nbytes, eager=False)
            self._stalls += found is None
        self.flush()
        return found

    def reserve(self, nbytes: int, timeout: float | None = None) -> Slice:
        nbytes = self._fits(nbytes)
        deadline = Deadline(timeout)
        ticket, stalled = object(), False
        with self.changed:
            self._queue.append(ticket)
            try:
                while True:
                    self.check()
                    if self._queue[0] is ticket:
                        found = self._place(nbytes, eager=True)
                        self.flush()
                        if found is not None:
                            return found
                        self._refuse_own([b for b in self._blocks if b.sealed and b.point is None])
                    self._stalls += not stalled
                    stalled = True
                    self._rest(deadline, f"no room for {nbytes} bytes")
            finally:
                self._queue.remove(ticket)
                self.changed.notify_all()

    def advance(self, timeout: float | None = None) -> Point:
        self.check()
        deadline = Deadline(timeout)
        with self.changed:
            self._reap()
            current = self._blocks[self._index]
            self._refuse_own([*self._sealed, current])
            if not current.sealed and current.used:
                self._seal(current)
            awaited = set(self._sealed)
            self.flush()
            while not awaited.isdisjoint(self._sealed):
                self._rest(deadline, "slices of other threads are not committed")
                self.check()
                self.flush()
            return self._last or self.device.idle_point(self.lane)

    def upload(
        self,
        data: Any,
        target: Any,
        offset: int = 0,
        *,
        origin: tuple[int, int] = (0, 0),
        timeout: float | None = None,
    ) -> Point:
        self.check()
        array = data_of(data)
        deadline = Deadline(timeout)
        if not isinstance(target, Memory):
            raise ForeignObject(f"{target!r} is not memory of this device")
        target.check(self.device)
        with self.changed:
            self._reap()
            self._refuse_own(self._blocks)
        if isinstance(target, Texture):
            self._upload_rows(array, target, offset, origin, deadline)
        else:
            assert isinstance(target, Buffer)
            offset = whole(offset, "offset")
            target.region(offset, array.nbytes)
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            for start in range(0, flat.nbytes, self.buffer_size):
                piece = flat[start : start + self.buffer_size]
                slot = self.reserve(piece.nbytes, deadline.timeout)
                np.copyto(slot.bytes, piece)
                slot.commit(target, offset + start)
        return self.advance(deadline.timeout)

    def stats(self) -> RingStats:
        with self.changed:
            flying = sum(b.staged for b in self._blocks if b.point is not None and not b.point.done)
            return RingStats(
                ring_count=self.ring_count,
                buffer_size=self.buffer_size,
                current_ring_index=self._index,
                bytes_in_flight=flying,
                buffer_stalls=self._stalls,
                allocations=self._allocated,
                bytes_staged=self.staged,
                submissions=self._submissions,
            )

    def close(self) -> None:
        if self.closed:
            return
        for one in list(self._slices):
            one.release()
        with self.changed:
            if self.device.closed or self.device.machine.lost is not None:
                self.abandon()
                return
            current = self._blocks[self._index]
            if not current.sealed and current.work:
                self._seal(current)
            try:
                self.flush()
            finally:
                self.abandon()

    def abandon(self) -> None:
        with self.changed:
            if self.closed:
                return
            self.closed = True
            self.changed.notify_all()
        for one in list(self._slices):
            one.revoke()
        self._give_back()

    def wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, kind: object, *_exc: object) -> None:
        try:
            self.close()
        except ViewHeld:
            if kind is None:
                raise
            self.abandon()

    def flush(self) -> None:
        """Submit the sealed blocks whose slices are all committed, in ring order."""
        with self.changed:
            self._reap()
            while self._sealed and not self._sealed[0].open:
                block = self._sealed[0]
                if block.work:
                    block.point = self._last = self.device.run(self.lane, block.work, [], block.targets)
                    self._submissions += 1
                    block.point.on_done(lambda *_: self.wake())
                else:
                    block.clear()
                self._sealed.popleft()
                self.changed.notify_all()

    def _place(self, nbytes: int, eager: bool) -> Slice | None:
        self._reap()
        block = self._blocks[self._index]
        if not block.free():
            return None
        start = -(-block.used // STEP) * STEP
        if start + nbytes > self.buffer_size:
            following = self._blocks[(self._index + 1) % self.ring_count]
            if following is block or not following.free():
                if eager:
                    self._seal(block)
                return None
            self._seal(block)
            block, start = following, 0
        block.used = start + nbytes
        self._allocated += 1
        found = Slice(self, block, start, nbytes)
        block.open[found.key] = threading.get_ident()
        self._slices.add(found)
        return found

    def _seal(self, block: Block) -> None:
        block.sealed = True
        self._sealed.append(block)
        self._index = (block.index + 1) % self.ring_count

    def _reap(self) -> None:
        while self.ended:
            block, key = self.ended.popleft()
            block.open.pop(key, None)

    def _refuse_own(self, blocks: list[Block]) -> None:
        mine = {key for b in blocks for key, thread in b.open.items() if thread == threading.get_ident()}
        slots = [slot for slot in self._slices if slot.key in mine]
        here = len(mine) - len(slots)  # those that were dropped, and have arrays that live on
        while slots:
            slot = slots.pop()
            here += held_here(slot)
        if here:
            raise SliceOutstanding(f"{here} slice(s) of this thread are open; commit or release them first")

    def _rest(self, deadline: Deadline, why: str) -> None:
        left = deadline.left(0.05)
        if left <= 0:
            raise FenceTimeout(f"staging ring on lane {self.lane!r}: {why}; {self.stats()}")
        self.changed.wait(left)  # the collector frees slices without telling anybody
        heed()

    def _upload_rows(
        self, array: Any, target: Texture, offset: int, origin: tuple[int, int], deadline: Deadline
    ) -> None:
        item, texel = texel_of(target.format)
        origin = two(origin, "origin")
        if offset:
            raise UsageError("a texture takes origin=(x, y), not a byte offset")
        if array.dtype != item or array.ndim < 2 or array.shape[2:] not in (texel, texel or (1,)):
            raise UsageError(
                f"{array.dtype} of shape {array.shape} is not rows of {target.format.name}, {item} {texel}"
            )
        height, width = array.shape[:2]
        target.region(origin, (width, height))
        row = width * target.format.block_bytes
        if array.size and row > self.buffer_size:
            raise TooLarge(f"a row of {row} bytes is more than the buffer_size of {self.buffer_size}")
        at_once = self.buffer_size // row if row else height
        rows = np.ascontiguousarray(array).reshape(height, -1).view(np.uint8) if array.size else array
        for y in range(0, height if array.size else 0, at_once):
            part = rows[y : y + at_once]
            slot = self.reserve(part.nbytes, deadline.timeout)
            np.copyto(slot.bytes, part.reshape(-1))
            slot.commit_rows(target, origin=(origin[0], origin[1] + y), size=(width, len(part)))

    def _fits(self, nbytes: int) -> int:
        self.check()
        nbytes = whole(nbytes, "a slice, of at least 1 byte,")
        if nbytes < 1:
            raise UsageError(f"a slice has at least 1 byte, not {nbytes!r}")
        if nbytes > self.buffer_size:
            raise TooLarge(f"{nbytes} bytes never fit in blocks of {self.buffer_size}; use upload()")
        return nbytes

    def _give_back(self) -> None:
        for block in self._blocks:
            points = [block.point] if block.point is not None else []
            self.device.give_back(block.store.reservation, points)
