"""The budget ledger: every byte by kind and heap, under one lock."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from forge3d_core import protocols
from forge3d_core.arguments import function
from forge3d_core.deadline import Deadline
from forge3d_core.errors import BudgetError, Forked, copy_exception
from forge3d_core.lifetime.hold import Reference
from forge3d_core.memory import entry as entries
from forge3d_core.memory.entry import Entry, Held, fits, with_entry, without_entry
from forge3d_core.memory.holdings import holdings_of
from forge3d_core.memory.process import ProcessTracker
from forge3d_core.memory.reclaimers import Caches, Reclaimer, ask
from forge3d_core.memory.reservation import LedgerReservation
from forge3d_core.memory.watermarks import Watermark, crossings, report, watermark
from forge3d_core.presentation import line, presents
from forge3d_core.protocols import BudgetMetrics, Heap, Holding, MemoryAmount, MemoryKind, MemoryUsage
from forge3d_core.units import MIB, format_bytes, parse_bytes

DEFAULT_LIMIT = 512 * MIB
"""Host-visible bytes allowed unless configured. Source: the memory management guide."""

SETTLE_SECONDS = 0.005
"""How often a waiting reservation looks for memory that the device has finished with."""

_log = logging.getLogger(__name__)


@attrs.frozen(eq=False)
class _Ticket:
    """A place in the line of the threads that wait for room."""

    thread: threading.Thread


@presents(protocols.DetailedBudget)
@attrs.define(eq=False, on_setattr=attrs.setters.NO_OP)
class Ledger:
    """See :class:`forge3d_core.protocols.DetailedBudget`.

    All figures are one frozen value, and each change puts another in its place; see :meth:`_change`.

    ``sweep`` is called before anything is counted or refused: what defers giving back (a buffer
    the device still uses, an owner the garbage collector found) catches up there. When it returns,
    what could be given back has been, by this thread or by another.
    """

    _counts: Held = attrs.field(  # made of the limit
        default=DEFAULT_LIMIT,  # type: ignore[assignment]
        converter=entries.nothing_held,
        alias="limit",
    )
    sweep: Callable[[], None] = attrs.field(default=lambda: None)
    _process: ProcessTracker = attrs.field(factory=ProcessTracker, alias="process")
    shares: bool = attrs.field(default=True)  # whether its limit counts for that of the process
    _held: dict[weakref.ref[Any] | None, Entry] = attrs.field(factory=dict, init=False)  # or more
    _pending: set[Entry] = attrs.field(factory=set, init=False)  # and perhaps some that are so no more
    _waiting: deque[_Ticket] = attrs.field(factory=deque, init=False)
    _abandoned: deque[weakref.ref[Any]] = attrs.field(factory=deque, init=False)
    _reclaimers: list[Reclaimer] = attrs.field(factory=list, init=False)
    device_caches: Caches = attrs.field(factory=Caches, init=False)
    _watermarks: list[Watermark] = attrs.field(factory=list, init=False)
    _ended: Exception | None = attrs.field(default=None, init=False)
    _pid: int = attrs.field(factory=os.getpid, init=False)
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    _changed: threading.Condition = attrs.field(
        init=False, default=attrs.Factory(lambda self: threading.Condition(self._lock), takes_self=True)
    )

    def __attrs_post_init__(self) -> None:
        self._process.add(self)

    def __repr__(self) -> str:
        now = self.now
        return line(
            f"budget: {format_bytes(now.host_visible_bytes)} of {format_bytes(now.limit_bytes)} host-visible",
            f"{format_bytes(now.device_local_bytes)} device-local",
            "" if self._ended is None else "ended",
        )

    def _repr_html_(self) -> str:
        return self.now._repr_html_()

    @property
    def limit(self) -> int:
        return self.now.limit_bytes

    def set_limit(self, nbytes: int | str) -> None:
        limit = parse_bytes(nbytes)
        self._usable()
        with self._lock:
            self._change(lambda now: now.limited(limit))
            crossed = crossings(self._watermarks, lambda: self.now)
            self._changed.notify_all()
        report(crossed, lambda: self.now)

    def reserve(
        self,
        nbytes: int,
        *,
        kind: MemoryKind = "buffer",
        heap: Heap = "host_visible",
        timeout: float | None = 0.0,
        label: str = "",
    ) -> LedgerReservation:
        return self.take(entries.entry_of(nbytes, kind, heap, label=label), timeout)

    def take(self, entry: Entry, timeout: float | None = 0.0) -> LedgerReservation:
        """Reserve what an entry says; where it is pending until ``grant``, it counts and raises no peak."""
        deadline = Deadline.after(timeout)
        self._usable()
        reservation = LedgerReservation(self, entry)
        entry.owner = Reference(reservation, self._abandoned.append)
        try:
            self._catch_up()
            crossed = self._obtain(entry, deadline)
            if crossed is None:
                raise self._refused(entry)
            report(crossed, lambda: self.now)
        except BaseException:
            reservation.release()  # taken already, if it is a watermark's callback that ends the program
            raise
        return reservation

    def check(self, nbytes: int, *, heap: Heap = "host_visible") -> None:
        entry = entries.entry_of(nbytes, "buffer", heap)
        self._usable()
        self._catch_up()
        if not (fits(self.now, entry) and self._room(entry)):
            raise self._refusal(entry)

    def metrics(self) -> BudgetMetrics:
        self._catch_up()
        return self.now

    def usage(self) -> MemoryUsage:
        self._catch_up()
        return entries.usage_of(self._counts.amounts)

    def holdings(self) -> list[Holding]:
        self._catch_up()
        return holdings_of(entry for entry in list(self._held.values()) if entry.held)

    @property
    def now(self) -> BudgetMetrics:
        """The figures as they are noted, without catching up with anything."""
        return self._counts.metrics

    def available_bytes(self) -> int:
        self._catch_up()
        return self._process.available(self)

    @property
    def amounts(self) -> Mapping[str, MemoryAmount]:
        """What is noted by use and by heap."""
        return self._counts.amounts

    def give_back(self, nbytes: int) -> int:
        """Have the reclaimers give back ``nbytes``; return how many they did."""
        given = ask(list(self._reclaimers), nbytes)
        self._catch_up()  # what a reclaimer let go may just be going back on another thread
        return given

    def add_reclaimer(self, reclaim: Callable[[int], int]) -> Callable[[], None]:
        function("a reclaimer", reclaim)
        self._usable()
        with self._lock:
            self._reclaimers.append(reclaim)
        return lambda: self._forget(self._reclaimers, reclaim)

    def on_watermark(self, fraction: float, callback: Callable[[BudgetMetrics], None]) -> Callable[[], None]:
        mark = watermark(fraction, callback)
        self._usable()
        with self._lock:
            self._watermarks.append(mark)
            crossed = crossings(self._watermarks, lambda: self.now)
        report(crossed, lambda: self.now)
        return lambda: self._forget(self._watermarks, mark)

    def grant(self, entry: Entry) -> None:
        """Note that the driver had memory for an entry: from now on it may be a peak."""
        with self._lock:
            entry.pending = False
            self._pending.discard(entry)
            self._change(lambda now: entries.granted(now, entry, self._pending))

    def release(self, entry: Entry) -> None:
        """Give an entry back, once; in a forked child it is the parent's, like the lock."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._pending.discard(entry)
            if self._change(lambda now: without_entry(now, entry) if entry.held else None, entry):
                self._held.pop(entry.owner, None)
                entry.owner = None
                crossings(self._watermarks, lambda: self.now)  # falling only re-arms
                self._changed.notify_all()

    def end(self, error: Exception) -> None:
        """Refuse everything with ``error`` from now on and wake all waits; what is held stays held."""
        with self._lock:
            self._ended = error
            self._changed.notify_all()

    def close(self) -> list[Holding]:
        """Give back what is still held, and return what that was."""
        self._catch_up()
        leaked = [entry for entry in list(self._held.values()) if entry.held]
        leaks = holdings_of(leaked)
        for entry in leaked:
            self.release(entry)
        self._process.remove(self)
        return leaks

    def _change(self, step: Callable[[Held], Held | None], entry: Entry | None = None) -> bool:
        """Put what ``step`` makes of the figures in their place; False if it makes None of them.

        The caller has the lock, and a finalizer that runs on this very thread may change the figures all the
        same. So ``step`` is pure, and what it made of figures that have changed meanwhile is made again. The
        last look and the assignments are one step (``docs/decisions/0020-ends.md``).
        """
        while (after := step(before := self._counts)) is not None:
            if self._counts is before:
                if entry is None:
                    self._counts = after
                else:
                    self._counts, entry.held = after, not entry.held
                return True
        return False

    def _usable(self) -> None:
        if self._pid != os.getpid():
            raise Forked(
                f"this budget is of a device of process {self._pid}, the parent; GPU state does not survive "
                "a fork: open a device in the child"
            )
        if self._ended is not None:
            raise copy_exception(self._ended)

    def _catch_up(self) -> None:
        if self._pid != os.getpid():
            return  # nothing comes back here, and a lock that was held at the fork stays held
        self.sweep()
        while self._abandoned:
            try:
                gone = self._abandoned[0]
            except IndexError:
                return  # another thread was faster
            # Noted until it is given back, so that no other thread takes it for something still in use.
            if (entry := self._held.get(gone)) is not None:
                self.release(entry)
                self._held.pop(gone, None)  # a release that was cut short may have given back, and no more
            with contextlib.suppress(ValueError):
                self._abandoned.remove(gone)

    def _obtain(self, entry: Entry, deadline: Deadline) -> list[Watermark] | None:
        """Take ``entry``, in its turn if it may wait; return the marks that it crossed, None if refused."""
        if entry.heap == "device_local" or not deadline.left():
            return self._try(entry)
        ticket = _Ticket(threading.current_thread())
        try:
            self._waiting.append(ticket)
            while entry.nbytes <= min(self.limit, self._process.limit):
                self._usable()
                # A reclaimer, or a finalizer, that reserves does not wait for its own thread.
                first = self._waiting[0].thread is ticket.thread
                if first and (crossed := self._try(entry)) is not None:
                    return crossed
                left = deadline.left(SETTLE_SECONDS)
                if left <= 0:
                    return None
                with self._lock:
                    self._changed.wait(left)
                self._catch_up()
            return None
        finally:
            # First of all, and without a lock (record 20).
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            with self._lock:
                self._changed.notify_all()

    def _try(self, entry: Entry) -> list[Watermark] | None:
        """Take ``entry`` if it fits, perhaps once the reclaimers have given back; None if it does not."""
        crossed = self._admit(entry)
        if crossed is None and self._reclaim(entry):
            crossed = self._admit(entry)
        return crossed

    def _admit(self, entry: Entry) -> list[Watermark] | None:
        with self._lock, self._process.lock:
            self._usable()
            self._held[entry.owner] = entry
            if entry.pending:
                self._pending.add(entry)
            if self._room(entry) and self._change(
                lambda now: with_entry(now, entry, self._pending) if fits(now.metrics, entry) else None, entry
            ):
                self._process.note(entry.use, entry.heap)
                return crossings(self._watermarks, lambda: self.now)
            self._held.pop(entry.owner, None)
            return None

    def _reclaim(self, entry: Entry) -> bool:
        """Ask the reclaimers for what ``entry`` lacks, then those of other devices; whether any was asked."""
        now = self.now
        wanted = now.host_visible_bytes + entry.nbytes - now.limit_bytes
        if entry.nbytes > now.limit_bytes:
            return False
        asked = wanted > 0 and bool(self.give_back(wanted) or self._reclaimers)
        if not (asked and self._process.room(entry.nbytes)):
            lacking = self._process.lacking(entry.nbytes)
            asked = (lacking > 0 and self._process.reclaim(lacking, self)) or asked
        return asked

    def _refused(self, entry: Entry) -> BudgetError:
        """Count a refusal and return it."""
        with self._lock:
            self._change(Held.refused)
        return self._refusal(entry)

    def _refusal(self, entry: Entry) -> BudgetError:
        now = self.now
        return entries.refusal(now, entry) if not fits(now, entry) else self._process.refusal(entry.nbytes)

    def _room(self, entry: Entry) -> bool:
        """Whether the process has room as well; the process's lock is held where it is taken."""
        return entry.heap == "device_local" or self._process.room(entry.nbytes)

    def _forget(self, listeners: list[Any], one: Any) -> None:
        if self._pid != os.getpid():
            return
        with self._lock:
            if one in listeners:
                listeners.remove(one)
