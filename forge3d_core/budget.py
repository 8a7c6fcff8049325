"""The budget ledger: every byte by kind and heap, under one lock."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Self

import attrs

from forge3d_core.errors import BudgetError, BudgetExceeded, BudgetExhausted, UsageError
from forge3d_core.protocols import BudgetMetrics, Heap, MemoryKind
from forge3d_core.units import MIB, format_bytes, parse_bytes

DEFAULT_LIMIT = 512 * MIB
"""Host-visible bytes allowed unless configured. Source: the memory management guide."""

SETTLE_SECONDS = 0.005
"""How often a waiting reservation looks for memory that the device has finished with."""

_log = logging.getLogger(__name__)


@attrs.define(eq=False)
class Entry:
    """What the ledger knows of one reservation; it outlives the object that the caller holds."""

    nbytes: int
    kind: MemoryKind
    heap: Heap
    released: bool = False


@attrs.define(eq=False)
class LedgerReservation:
    """See :class:`forge3d_core.protocols.Reservation`. Dropped unreleased, it gives back when collected."""

    _tracker: Ledger
    _entry: Entry

    def __attrs_post_init__(self) -> None:
        weakref.finalize(self, self._tracker._abandoned.append, self._entry).atexit = False

    @property
    def nbytes(self) -> int:
        return self._entry.nbytes

    @property
    def kind(self) -> MemoryKind:
        return self._entry.kind

    @property
    def heap(self) -> Heap:
        return self._entry.heap

    @property
    def released(self) -> bool:
        return self._entry.released

    def release(self) -> None:
        self._tracker.release(self._entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


@attrs.define(eq=False)
class _Watermark:
    fraction: float
    callback: Callable[[BudgetMetrics], None]
    above: bool = False


@attrs.define(eq=False)
class Ledger:
    """See :class:`forge3d_core.protocols.BudgetTracker`.

    ``settle`` is called before anything is counted or refused: whoever defers giving back (a buffer
    the device still uses, an owner the garbage collector found) catches up there.
    """

    _limit: int = attrs.field(default=DEFAULT_LIMIT, converter=parse_bytes)
    settle: Callable[[], None] = attrs.field(default=lambda: None)
    _held: set[Entry] = attrs.field(factory=set, init=False)
    _used: dict[tuple[MemoryKind, Heap], int] = attrs.field(factory=dict, init=False)
    _counts: dict[MemoryKind, int] = attrs.field(factory=dict, init=False)
    _host: int = attrs.field(default=0, init=False)
    _device: int = attrs.field(default=0, init=False)
    _peak: int = attrs.field(default=0, init=False)
    _peak_host: int = attrs.field(default=0, init=False)
    _refusals: int = attrs.field(default=0, init=False)
    _waiting: deque[object] = attrs.field(factory=deque, init=False)
    _abandoned: deque[Entry] = attrs.field(factory=deque, init=False)
    _reclaimers: list[Callable[[int], int]] = attrs.field(factory=list, init=False)
    _watermarks: list[_Watermark] = attrs.field(factory=list, init=False)
    _changed: threading.Condition = attrs.field(factory=threading.Condition, init=False)

    @property
    def limit(self) -> int:
        return self._limit

    def set_limit(self, nbytes: int | str) -> None:
        limit = parse_bytes(nbytes)
        with self._changed:
            self._limit = limit
            crossed = self._crossings()
            self._changed.notify_all()
        self._report(crossed)

    def reserve(
        self,
        nbytes: int,
        *,
        kind: MemoryKind = "buffer",
        heap: Heap = "host_visible",
        timeout: float | None = 0.0,
    ) -> LedgerReservation:
        entry = _entry(nbytes, kind, heap)
        self._catch_up()
        if not self._take(entry):
            self._reclaim(entry)
            if not self._take(entry) and not self._wait(entry, timeout):
                with self._changed:
                    self._refusals += 1
                    error = self._refusal(entry)
                raise error
        return LedgerReservation(self, entry)

    def check(self, nbytes: int, *, heap: Heap = "host_visible") -> None:
        entry = _entry(nbytes, "buffer", heap)
        self._catch_up()
        with self._changed:
            if not self._fits(entry):
                raise self._refusal(entry)

    def metrics(self) -> BudgetMetrics:
        self._catch_up()
        with self._changed:
            return self._snapshot()

    def add_reclaimer(self, reclaim: Callable[[int], int]) -> Callable[[], None]:
        with self._changed:
            self._reclaimers.append(reclaim)
        return lambda: self._forget(self._reclaimers, reclaim)

    def on_watermark(self, fraction: float, callback: Callable[[BudgetMetrics], None]) -> Callable[[], None]:
        if not 0 < fraction <= 1:
            raise UsageError(f"a watermark is a fraction of the limit in (0, 1], not {fraction!r}")
        mark = _Watermark(fraction, callback)
        with self._changed:
            self._watermarks.append(mark)
            crossed = self._crossings()
        self._report(crossed)
        return lambda: self._forget(self._watermarks, mark)

    def release(self, entry: Entry) -> None:
        """Give an entry back, once."""
        with self._changed:
            if entry.released:
                return
            entry.released = True
            self._held.discard(entry)
            self._count(entry, -1)
            self._crossings()  # falling only re-arms
            self._changed.notify_all()

    def close(self) -> tuple[int, int]:
        """Give back what is still held; return how many reservations that were, and their bytes."""
        self._catch_up()
        with self._changed:
            leaked = list(self._held)
        for entry in leaked:
            self.release(entry)
        return len(leaked), sum(entry.nbytes for entry in leaked)

    def abandon(self, entry: Entry) -> None:
        """Note that an entry's owner was collected; takes no lock, as a collector may hold it."""
        if not entry.released:
            self._abandoned.append(entry)

    def _catch_up(self) -> None:
        self.settle()
        while self._abandoned:
            try:
                entry = self._abandoned.popleft()
            except IndexError:
                return  # another thread was faster
            self.release(entry)

    def _fits(self, entry: Entry) -> bool:
        return entry.heap == "device_local" or self._host + entry.nbytes <= self._limit

    def _take(self, entry: Entry) -> bool:
        with self._changed:
            if not self._fits(entry):
                return False
            self._held.add(entry)
            self._count(entry, 1)
            self._peak = max(self._peak, self._host + self._device)
            self._peak_host = max(self._peak_host, self._host)
            crossed = self._crossings()
        self._report(crossed)
        return True

    def _count(self, entry: Entry, sign: int) -> None:
        key = (entry.kind, entry.heap)
        self._used[key] = self._used.get(key, 0) + sign * entry.nbytes
        self._counts[entry.kind] = self._counts.get(entry.kind, 0) + sign
        if entry.heap == "host_visible":
            self._host += sign * entry.nbytes
        else:
            self._device += sign * entry.nbytes

    def _reclaim(self, entry: Entry) -> None:
        with self._changed:
            wanted = self._host + entry.nbytes - self._limit
            reclaimers = list(self._reclaimers) if entry.nbytes <= self._limit else []
        for reclaim in reclaimers:
            if wanted <= 0:
                return
            wanted -= reclaim(wanted)

    def _wait(self, entry: Entry, timeout: float | None) -> bool:
        """Wait for room behind those who waited before, so that a large request is not starved."""
        if timeout == 0:
            return False
        deadline = None if timeout is None else time.monotonic() + timeout
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
        try:
            while True:
                with self._changed:
                    if entry.nbytes > self._limit:
                        return False
                    first = self._waiting[0] is ticket
                if first and self._take(entry):
                    return True
                left = SETTLE_SECONDS if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return False
                with self._changed:
                    self._changed.wait(min(left, SETTLE_SECONDS))
                self._catch_up()
                if first:
                    self._reclaim(entry)
        finally:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _refusal(self, entry: Entry) -> BudgetError:
        asked, limit = format_bytes(entry.nbytes), format_bytes(self._limit)
        if entry.nbytes > self._limit:
            return BudgetExceeded(
                f"{asked} of host-visible memory is more than the whole budget of {limit}; "
                "raise it (open_device(budget=...), set_limit) or work in smaller pieces"
            )
        return BudgetExhausted(
            f"{asked} of host-visible memory do not fit now: {format_bytes(self._host)} of {limit} are in "
            "use; close rings, pools or buffers, raise the budget, or wait with timeout="
        )

    def _crossings(self) -> list[_Watermark]:
        crossed = []
        for mark in self._watermarks:
            above = self._host >= mark.fraction * self._limit and self._host > 0
            if above and not mark.above:
                crossed.append(mark)
            mark.above = above
        return crossed

    def _report(self, crossed: list[_Watermark]) -> None:
        for mark in crossed:
            with self._changed:
                metrics = self._snapshot()
            try:
                mark.callback(metrics)
            except Exception:  # the caller asked for memory, not for somebody's callback
                _log.exception("the callback of watermark %s failed", mark.fraction)

    def _snapshot(self) -> BudgetMetrics:
        def nbytes(kind: MemoryKind) -> int:
            return sum(used for (of, _), used in self._used.items() if of == kind)

        return BudgetMetrics(
            buffer_count=self._counts.get("buffer", 0),
            buffer_bytes=nbytes("buffer"),
            texture_count=self._counts.get("texture", 0),
            texture_bytes=nbytes("texture"),
            host_visible_bytes=self._host,
            device_local_bytes=self._device,
            total_bytes=self._host + self._device,
            peak_bytes=self._peak,
            peak_host_visible_bytes=self._peak_host,
            limit_bytes=self._limit,
            refusals=self._refusals,
        )

    def _forget(self, listeners: list[Any], one: Any) -> None:
        with self._changed:
            if one in listeners:
                listeners.remove(one)


def _entry(nbytes: int, kind: MemoryKind, heap: Heap) -> Entry:
    if kind not in ("buffer", "texture"):
        raise UsageError(f"kind is 'buffer' or 'texture', not {kind!r}")
    if heap not in ("host_visible", "device_local"):
        raise UsageError(f"heap is 'host_visible' or 'device_local', not {heap!r}")
    return Entry(parse_bytes(nbytes), kind, heap)
