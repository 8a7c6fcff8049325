"""The pool of device buffers: taken by size class, given back, handed out again when the device is done."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Self

from forge3d_core.arguments import flag, real
from forge3d_core.errors import BudgetError, Closed, ForgeError, UsageError
from forge3d_core.memory.reclaimers import when_short
from forge3d_core.pooling.lease import PooledBuffer
from forge3d_core.pooling.shelf import Idle, Shelf
from forge3d_core.pooling.size_classes import capacity_of
from forge3d_core.pooling.stats import BufferPoolStats
from forge3d_core.presentation import line, no_copy
from forge3d_core.protocols import Buffer, Device, FencePoint, RecyclableBuffer
from forge3d_core.units import format_bytes, parse_bytes

DEFAULT_AGE = 60.0
"""Seconds that a buffer stays idle before it goes back to the device."""

LOOKS = 8
"""How often within that time a pool looks for buffers that are too old."""


class BufferPool:
    """Device buffers that are used again: for what a program takes and gives back often (O2).

    Contract
        ``acquire`` returns a buffer of its size class, at most 1/16 (or one alignment) more than what was
        asked for. A buffer that was given back is handed out again once the device has finished with it,
        never before, and one that is still in use stands in the way of no other. It is zero then, unless the
        caller says that it overwrites all of it. On devices that the core assembles, whatever names the old
        buffer raises :class:`Closed` from the moment that it is handed out again; elsewhere a program must
        not use a buffer that it has given back.

        What is idle is counted by the device's budget as any buffer is. It goes back to the device when it
        has been idle for ``max_age`` seconds (a call of the pool sees that, an eighth of that time later at
        most), above ``max_idle`` bytes, oldest first, and when the device has no more memory, for this pool
        or for anything else.

    Whole buffers are recycled, not parts of larger ones: ``docs/decisions/0026-pools-recycle-buffers.md``.

    Thread-safety: any thread.
    """

    def __init__(
        self,
        device: Device,
        *,
        max_idle: int | str | None = None,
        max_age: float | None = DEFAULT_AGE,
        label: str = "pooled",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``max_idle``: bytes, None for any; ``max_age``: seconds, None for ever."""
        self.device = device
        self._max_idle = None if max_idle is None else parse_bytes(max_idle)
        self._max_age = None if max_age is None else real("max_age", max_age)
        self._label = label
        self._clock = clock
        self._granule = max(16, device.limits.copy_alignment)
        self._lock = threading.Lock()
        self._shelf = Shelf()
        self._leases: weakref.WeakSet[PooledBuffer] = weakref.WeakSet()
        self._hits = self._misses = self._zeroings = self._trimmed = 0
        self._next_look = -math.inf
        self._closed = False
        self._forget = when_short(device.budget, self.trim)

    def acquire(self, nbytes: int | str, *, exact: bool = False, overwrite: bool = False) -> PooledBuffer:
        """Return a zeroed buffer of at least ``nbytes`` (from 1) bytes.

        ``exact``: of just so many, for kernels that go by the length of what they bind; only such a buffer
        of the same size is used again for it. ``overwrite``: it need not be zero, as the caller overwrites
        all that will be read. Raises :class:`Closed`, :class:`TooLarge`, and a :class:`BudgetError` when the
        device refuses what the pool's idle buffers do not make room for.
        """
        size = parse_bytes(nbytes)
        if size < 1:
            raise UsageError("a buffer has at least 1 byte")
        exact, overwrite = flag("exact", exact), flag("overwrite", overwrite)
        capacity = size if exact else capacity_of(size, self._granule)
        if size <= self.device.limits.max_buffer_size < capacity:
            capacity = size
        self._check()
        buffer = self._take(capacity)
        hit = buffer is not None
        if buffer is None:
            buffer = self._create(capacity)
        elif not overwrite:
            self.device.submit(self.device.command_list(label="zero").fill(buffer))
        lease = PooledBuffer(buffer, size, self._give_back)
        with self._lock:
            self._leases.add(lease)
            self._hits += hit
            self._misses += not hit
            self._zeroings += hit and not overwrite
        self._trim_old()
        return lease

    def trim(self, nbytes: int | str | None = None, *, older_than: float = 0.0) -> int:
        """Give idle buffers back to the device, oldest first; return how many bytes.

        Of ``nbytes`` or a little more (default: all), idle for ``older_than`` seconds at least. What the
        device still uses goes back when it is done.
        """
        wanted = math.inf if nbytes is None else parse_bytes(nbytes)
        before = math.inf if older_than <= 0 else self._clock() - older_than
        given = 0
        while given < wanted:
            with self._lock:
                idle = self._shelf.take_oldest(before)
                self._trimmed += idle is not None
            if idle is None:
                break
            idle.buffer.close()
            given += idle.nbytes
        return given

    def stats(self) -> BufferPoolStats:
        """Return its figures, all of one instant; works after close."""
        with self._lock:
            out = [lease for lease in self._leases if not lease.released]
            return BufferPoolStats(
                hits=self._hits,
                misses=self._misses,
                zeroings=self._zeroings,
                trimmed=self._trimmed,
                leases=len(out),
                bytes_asked=sum(lease.nbytes for lease in out),
                bytes_leased=sum(lease.capacity for lease in out),
                bytes_idle=self._shelf.nbytes,
                idle=self._shelf.count,
            )

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """Give what is idle back to the device, and what is leased once it is released; idempotent."""
        self._closed = True
        self._forget()
        self.trim()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    __reduce_ex__ = no_copy

    def __repr__(self) -> str:
        return line(
            f"buffer pool, {self._shelf.count} idle of {format_bytes(self._shelf.nbytes)}",
            "closed" if self._closed else "",
        )

    def _take(self, capacity: int) -> Buffer | None:
        """Take the buffer that was given back last of those that are out of use, if there is one.

        Looks from the oldest on, until one is still in use and another is ready. What an interrupt leaves out
        here goes back to the device.
        """
        busy: list[Idle] = []
        while True:
            with self._lock:
                enough = bool(busy) and self._shelf.has_ready(capacity)
                one = None if enough else self._shelf.take_returned(capacity)
            if one is None:
                break
            try:
                free = one.free()
            except Closed:
                continue  # its holder closed the buffer itself, or the device has closed
            if free is None:
                busy.append(one)
                continue
            with self._lock:
                self._shelf.put(free, ready=True)
        with self._lock:
            self._shelf.put_back(busy)
            idle = self._shelf.take_ready(capacity)
        return None if idle is None else idle.buffer

    def _create(self, capacity: int) -> Buffer:
        """Make a buffer; where the device refuses, with the room that idle ones have made."""
        while True:
            try:
                return self.device.create_buffer(capacity, label=self._label)
            except BudgetError:
                if not self.trim(capacity):
                    raise

    def _give_back(self, buffer: Buffer, capacity: int, after: Iterable[FencePoint]) -> None:
        if self._closed or buffer.closed:
            buffer.close()
            return
        points = tuple(after)
        if not isinstance(buffer, RecyclableBuffer) and not points:
            timelines = {lane.timeline.name: lane.timeline for lane in self.device.lanes.values()}
            points = tuple(timeline.point(timeline.submitted) for timeline in timelines.values())
        with self._lock:
            self._shelf.put(Idle(buffer, capacity, self._clock(), points))
        if self.closed:
            self.trim()  # it closed meanwhile, and saw all but this one
        self._trim_old()

    def _trim_old(self) -> None:
        if self._max_age is not None and (now := self._clock()) >= self._next_look:
            self._next_look = now + self._max_age / LOOKS
            self.trim(older_than=self._max_age)
        if self._max_idle is not None and self._shelf.nbytes > self._max_idle:
            self.trim(self._shelf.nbytes - self._max_idle)

    def _check(self) -> None:
        if self._closed:
            raise Closed("this buffer pool was closed; make another")
        if self.device.closed:
            with contextlib.suppress(ForgeError):
                self.close()
            raise Closed("the device of this buffer pool was closed; open another")
