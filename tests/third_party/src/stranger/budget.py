"""The budget: one lock, one dictionary."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs

from forge3d_core.errors import BudgetExceeded, BudgetExhausted, Forked, UsageError
from forge3d_core.protocols import BudgetMetrics
from stranger.clock import Deadline
from stranger.given import whole
from stranger.shield import heed, shielded

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def size_of(size: int | str) -> int:
    """Return bytes from an int or from text such as '4 MiB'."""
    if isinstance(size, str):
        text = size.strip().lower()
        number = text.rstrip("kmgib ")
        try:
            return int(float(number) * UNITS[text[len(number) :].strip()])
        except (KeyError, ValueError):
            raise UsageError(f"{size!r} is not a size; write for example '4 MiB'") from None
    count = whole(size, "a size")
    if count < 0:
        raise UsageError(f"a size is a number of bytes from 0 up, not {size!r}")
    return count


@attrs.define(eq=False)
class Entry:
    nbytes: int
    kind: str
    heap: str
    released: bool = False


@shielded
class Reservation:
    def __init__(self, budget: Budget, entry: Entry) -> None:
        self._budget, self._entry = budget, entry
        weakref.finalize(self, budget.forgotten.append, entry).atexit = False

    nbytes = property(lambda self: self._entry.nbytes)
    kind = property(lambda self: self._entry.kind)
    heap = property(lambda self: self._entry.heap)
    released = property(lambda self: self._entry.released)

    def release(self) -> None:
        self._budget.give_back(self._entry)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()


@attrs.define(eq=False)
class Mark:
    fraction: float
    callback: Callable[[BudgetMetrics], None]
    above: bool = False


@shielded
class Budget:
    """``settle`` is called first of all: whoever has been collected gives back there."""

    def __init__(self, limit: int, settle: Callable[[], None]) -> None:
        self.limit = limit
        self.forgotten: deque[Entry] = deque()  # filled by the garbage collector, so without a lock
        self._settle = settle
        self._held: set[Entry] = set()
        self._peak = self._peak_host = self._refusals = 0
        self._queue: deque[object] = deque()
        self._reclaimers: list[Callable[[int], int]] = []
        self._marks: list[Mark] = []
        self._ended: Exception | None = None
        self._pid = os.getpid()
        self._changed = threading.Condition()

    def set_limit(self, nbytes: int | str) -> None:
        limit = size_of(nbytes)
        self._usable()
        with self._changed:
            self.limit = limit
            risen = self._risen()
            self._changed.notify_all()
        self._tell(risen)

    def reserve(
        self,
        nbytes: int,
        *,
        kind: str = "buffer",
        heap: str = "host_visible",
        timeout: float | None = 0.0,
        promised: bool = False,  # there may be no memory behind it yet: no peak before count_peaks
    ) -> Reservation:
        if kind not in ("buffer", "texture") or heap not in ("host_visible", "device_local"):
            raise UsageError(f"no kind {kind!r} or no heap {heap!r}")
        entry, deadline = Entry(size_of(nbytes), kind, heap), Deadline(timeout)
        self._usable()
        self._catch_up()
        if heap == "device_local" or not deadline.left():
            taken = self._take(entry)
            if not taken:
                self._reclaim(entry)
                taken = self._take(entry)
        else:
            taken = self._await_room(entry, deadline)  # behind those who wait already
        if not taken:
            with self._changed:
                self._refusals += 1
                raise self._refusal(entry)
        if not promised:
            self.count_peaks()
        return Reservation(self, entry)

    def count_peaks(self) -> None:
        with self._changed:
            self._peak = max(self._peak, self._sum())
            self._peak_host = max(self._peak_host, self._sum(heap="host_visible"))

    def check(self, nbytes: int, *, heap: str = "host_visible") -> None:
        entry = Entry(size_of(nbytes), "buffer", heap)
        self._usable()
        self._catch_up()
        with self._changed:
            if not self._fits(entry):
                raise self._refusal(entry)

    def metrics(self) -> BudgetMetrics:
        self._catch_up()
        with self._changed:
            return self._snapshot()

    def add_reclaimer(self, reclaim: Callable[[int], int]) -> Callable[[], None]:
        self._usable()
        with self._changed:
            self._reclaimers.append(reclaim)
        return lambda: self._remove(self._reclaimers, reclaim)

    def on_watermark(self, fraction: float, callback: Callable[[BudgetMetrics], None]) -> Callable[[], None]:
        if not 0 < fraction <= 1:
            raise UsageError(f"a watermark is a fraction of the limit in (0, 1], not {fraction!r}")
        self._usable()
        mark = Mark(fraction, callback)
        with self._changed:
            self._marks.append(mark)
            risen = self._risen()
        self._tell(risen)
        return lambda: self._remove(self._marks, mark)

    def give_back(self, entry: Entry) -> None:
        with self._changed:
            if entry.released:
                return
            entry.released = True
            self._held.discard(entry)
            self._risen()
            self._changed.notify_all()

    def refuse(self, error: Exception) -> None:
        """Give nobody anything from now on, and tell who waits."""
        with self._changed:
            self._ended = error
            self._changed.notify_all()

    def end(self) -> tuple[int, int]:
        """Give back what is still held; return how many entries that were, and their bytes."""
        self._catch_up()
        with self._changed:
            leaked = list(self._held)
        for entry in leaked:
            self.give_back(entry)
        return len(leaked), sum(entry.nbytes for entry in leaked)

    def _usable(self) -> None:
        if self._pid != os.getpid():
            raise Forked(f"this budget is of process {self._pid}; open another device in the child")
        if self._ended is not None:
            raise type(self._ended)(*self._ended.args)

    def _sum(self, **wanted: str) -> int:
        return sum(e.nbytes for e in self._held if all(getattr(e, k) == v for k, v in wanted.items()))

    def _fits(self, entry: Entry) -> bool:
        return entry.heap != "host_visible" or self._sum(heap="host_visible") + entry.nbytes <= self.limit

    def _take(self, entry: Entry) -> bool:
        with self._changed:
            self._usable()
            if not self._fits(entry):
                return False
            self._held.add(entry)
            risen = self._risen()
        self._tell(risen)
        return True

    def _await_room(self, entry: Entry, deadline: Deadline) -> bool:
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
        try:
            while entry.nbytes <= self.limit:
                self._usable()
                if self._queue[0] is ticket:
                    if self._take(entry):
                        return True
                    self._reclaim(entry)
                left = deadline.left(0.01)
                if left <= 0:
                    return False
                with self._changed:
                    self._changed.wait(left)
                    heed()
                self._catch_up()  # what was collected notifies nobody
            return False
        finally:
            with self._changed:
                self._queue.remove(ticket)

    def _reclaim(self, entry: Entry) -> None:
        if entry.nbytes > self.limit:
            return
        with self._changed:
            wanted = self._sum(heap="host_visible") + entry.nbytes - self.limit
            reclaimers = list(self._reclaimers)
        for reclaim in reclaimers:
            if wanted > 0:
                with contextlib.suppress(Exception):  # its own trouble: the next is asked
                    wanted -= reclaim(wanted)

    def _refusal(self, entry: Entry) -> Exception:
        if entry.nbytes > self.limit:
            return BudgetExceeded(f"{entry.nbytes} bytes are more than the budget of {self.limit}; raise it")
        used = self._sum(heap="host_visible")
        return BudgetExhausted(
            f"{entry.nbytes} bytes do not fit now, {used} of {self.limit} are in use; close something"
        )

    def _risen(self) -> list[Mark]:
        used, risen = self._sum(heap="host_visible"), []
        for mark in self._marks:
            above = used > 0 and used >= mark.fraction * self.limit
            if above and not mark.above:
                risen.append(mark)
            mark.above = above
        return risen

    def _tell(self, marks: list[Mark]) -> None:
        for mark in marks:
            with self._changed:
                metrics = self._snapshot()
            mark.callback(metrics)

    def _snapshot(self) -> BudgetMetrics:
        return BudgetMetrics(
            buffer_count=sum(e.kind == "buffer" for e in self._held),
            buffer_bytes=self._sum(kind="buffer"),
            texture_count=sum(e.kind == "texture" for e in self._held),
            texture_bytes=self._sum(kind="texture"),
            host_visible_bytes=self._sum(heap="host_visible"),
            device_local_bytes=self._sum(heap="device_local"),
            total_bytes=self._sum(),
            peak_bytes=self._peak,
            peak_host_visible_bytes=self._peak_host,
            limit_bytes=self.limit,
            refusals=self._refusals,
        )

    def _catch_up(self) -> None:
        self._settle()
        while self.forgotten:
            self.give_back(self.forgotten.popleft())

    def _remove(self, listeners: list[Any], one: Any) -> None:
        with self._changed:
            if one in listeners:
                listeners.remove(one)
