"""The memory of a whole process: what all of its devices hold, and the limit that they share."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Protocol

import attrs

from forge3d_core.arguments import text
from forge3d_core.errors import BudgetError, BudgetExceeded, BudgetExhausted
from forge3d_core.forking import renew_in_child
from forge3d_core.lifetime.hold import Users, note, strike
from forge3d_core.memory.entry import HEAPS, USES, usage_of
from forge3d_core.presentation import Figures, counted, line
from forge3d_core.protocols import BudgetMetrics, MemoryAmount, MemoryUsage
from forge3d_core.units import MIB, format_bytes, parse_bytes

DEFAULT_LIMIT = 512 * MIB
"""Host-visible bytes of a process without devices. Source: the memory management guide."""

HIGH, CRITICAL = 0.75, 0.90
"""The marks of the memory management guide."""


class Ledger(Protocol):
    """What a budget shows the process."""

    @property
    def limit(self) -> int: ...

    @property
    def shares(self) -> bool:
        """Whether its limit counts for that of the process."""

    @property
    def now(self) -> BudgetMetrics:
        """Its figures as they are noted, without catching up with anything."""

    @property
    def amounts(self) -> Mapping[str, MemoryAmount]:
        """What is noted by use and by heap."""

    def metrics(self) -> BudgetMetrics: ...

    def give_back(self, nbytes: int) -> int:
        """Ask its reclaimers for ``nbytes``; return how many they gave back."""


@attrs.frozen
class ProcessMetrics(Figures):
    """What all devices of the process hold. Names from the memory management guide; sizes in bytes."""

    buffer_count: int
    buffer_bytes: int
    texture_count: int
    texture_bytes: int
    host_visible_bytes: int
    device_local_bytes: int
    total_bytes: int
    peak_bytes: int  # the highest total, of reservations under way too
    peak_host_visible_bytes: int
    limit_bytes: int
    refusals: int
    devices: int  # whose budgets are open

    @property
    def within_budget(self) -> bool:
        """Whether host-visible memory is within the limit; it is, unless the limit was lowered since."""
        return self.host_visible_bytes <= self.limit_bytes

    @property
    def available_bytes(self) -> int:
        """Host-visible bytes that are left."""
        return max(0, self.limit_bytes - self.host_visible_bytes)

    @property
    def utilization(self) -> float:
        """Host-visible bytes to the limit."""
        return self.host_visible_bytes / self.limit_bytes if self.limit_bytes else 1.0

    def __repr__(self) -> str:
        return line(
            f"process memory: {format_bytes(self.host_visible_bytes)} of {format_bytes(self.limit_bytes)} "
            "host-visible",
            f"{format_bytes(self.device_local_bytes)} device-local",
            counted(self.devices, "device"),
        )


@attrs.define(eq=False)
class Scope:
    """What the process held while a ``with`` block ran; of the whole process, other threads too."""

    name: str
    before: ProcessMetrics
    after: ProcessMetrics | None = None  # None while the block runs
    peak_bytes: int = 0
    peak_host_visible_bytes: int = 0

    @property
    def growth(self) -> int:
        """Bytes that are held after the block and were not before; None ran over until it ends."""
        return (self.after or self.before).total_bytes - self.before.total_bytes

    def __repr__(self) -> str:
        return line(
            f"memory scope {self.name!r}",
            "running" if self.after is None else f"grew by {format_bytes(self.growth)}",
            f"peak {format_bytes(self.peak_bytes)}",
        )


class ProcessTracker:
    """Adds up the budgets of a process and keeps their host-visible memory under one limit.

    The limit is the largest budget of any open device, 512 MiB by default, unless :meth:`set_limit` says
    otherwise: two devices of 512 MiB share 512 MiB. A device's own limit is the share that it may have.

    Thread-safety: any thread. Taking is serialized; a total is a sum of figures that are each of one instant.
    """

    def __init__(self) -> None:
        self._limit: int | None = None
        self._peak = 0
        self._peaks: dict[str, int] = dict.fromkeys((*USES, *HEAPS), 0)
        self._scopes: list[Scope] = []
        self._ledgers: Users = set()
        self.lock = threading.RLock()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin anew in a forked child: its parent's memory is not its own."""
        self.lock = threading.RLock()
        self._ledgers = set()
        self._scopes = []

    def add(self, ledger: Ledger) -> None:
        """Count a budget from now on, until it is removed or gone."""
        note(self._ledgers, ledger)

    def remove(self, ledger: Ledger) -> None:
        """Count a budget no more: it has closed."""
        strike(self._ledgers, ledger)

    @property
    def limit(self) -> int:
        """Host-visible bytes that all devices together may hold."""
        return self._standing()[1]

    def set_limit(self, nbytes: int | str | None) -> None:
        """Set the limit; None: as large as the largest budget. Lowered, it takes nothing away."""
        self._limit = None if nbytes is None else parse_bytes(nbytes)

    def room(self, nbytes: int) -> bool:
        """Whether ``nbytes`` of host-visible memory fit now; the lock is held by one who takes them."""
        host, limit = self._standing()
        return host + nbytes <= limit

    def available(self, ledger: Ledger) -> int:
        """Return the host-visible bytes that a budget and the process have left now."""
        now, (host, limit) = ledger.now, self._standing()
        return max(0, min(now.limit_bytes - now.host_visible_bytes, limit - host))

    def lacking(self, nbytes: int) -> int:
        """Return how much has to come back for ``nbytes`` to fit; 0 if they do, or never can."""
        host, limit = self._standing()
        return max(0, host + nbytes - limit) if nbytes <= limit else 0

    def note(self, *changed: str) -> None:
        """Note that something was taken, of these uses and heaps; the lock is held."""
        ledgers = self._open()
        for name in changed:
            nbytes = sum([ledger.amounts[name].nbytes for ledger in ledgers])
            if nbytes > self._peaks[name]:
                self._peaks[name] = nbytes
        total = sum([ledger.now.total_bytes for ledger in ledgers])
        if total > self._peak:
            self._peak = total
        if not self._scopes:
            return
        host = sum([ledger.now.host_visible_bytes for ledger in ledgers])
        for scope in self._scopes:
            scope.peak_bytes = max(scope.peak_bytes, total)
            scope.peak_host_visible_bytes = max(scope.peak_host_visible_bytes, host)

    def refusal(self, nbytes: int) -> BudgetError:
        """Return the error for ``nbytes`` that the process has no room for."""
        asked, limit = format_bytes(nbytes), format_bytes(self.limit)
        if nbytes > self.limit:
            return BudgetExceeded(
                f"{asked} of host-visible memory is more than all devices of this process together may have, "
                f"{limit}; raise it: global_tracker().set_limit(...)"
            )
        return BudgetExhausted(
            f"{asked} of host-visible memory do not fit now: the devices of this process hold "
            f"{format_bytes(self._host_visible())} of the {limit} that they share; close rings, pools or "
            "devices, raise the limit (global_tracker().set_limit), or wait with timeout="
        )

    def reclaim(self, nbytes: int, asking: Ledger) -> bool:
        """Have the other devices give back ``nbytes`` that they only keep; whether any was asked."""
        asked = False
        for ledger in self._open():
            if ledger is not asking and nbytes > 0:
                nbytes -= ledger.give_back(nbytes)
                asked = True
        return asked

    def get_metrics(self) -> ProcessMetrics:
        """Return the figures of all devices and registered memory, added up."""
        ledgers = self._open()
        parts = [ledger.metrics() for ledger in ledgers]
        total, host = sum(p.total_bytes for p in parts), sum(p.host_visible_bytes for p in parts)
        return ProcessMetrics(
            buffer_count=sum(p.buffer_count for p in parts),
            buffer_bytes=sum(p.buffer_bytes for p in parts),
            texture_count=sum(p.texture_count for p in parts),
            texture_bytes=sum(p.texture_bytes for p in parts),
            host_visible_bytes=host,
            device_local_bytes=sum(p.device_local_bytes for p in parts),
            total_bytes=total,
            peak_bytes=max(self._peak, total),
            peak_host_visible_bytes=max(self._peaks["host_visible"], host),
            limit_bytes=self.limit,
            refusals=sum(p.refusals for p in parts),
            devices=sum(ledger.shares for ledger in ledgers),
        )

    def usage(self) -> MemoryUsage:
        """Return counts, bytes and peaks by use and by heap, of all devices together."""
        ledgers = self._open()
        for ledger in ledgers:
            ledger.metrics()  # which catches up
        parts = [ledger.amounts for ledger in ledgers]
        amounts = {}
        for name, peak in self._peaks.items():
            nbytes = sum(part[name].nbytes for part in parts)
            amounts[name] = MemoryAmount(sum(part[name].count for part in parts), nbytes, max(peak, nbytes))
        return usage_of(amounts)

    def check_budget(self, nbytes: int | str) -> None:
        """Raise a :class:`BudgetError` if ``nbytes`` host-visible would not fit now; takes nothing."""
        size = parse_bytes(nbytes)
        if not self.room(size):
            raise self.refusal(size)

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[Scope]:
        """Watch what the process holds during a ``with`` block; scopes nest."""
        text("a scope's name", name)
        before = self.get_metrics()
        scope = Scope(name, before, None, before.total_bytes, before.host_visible_bytes)
        with self.lock:
            self._scopes.append(scope)
        try:
            yield scope
        finally:
            with self.lock:
                self._scopes.remove(scope)
            scope.after = self.get_metrics()

    def __repr__(self) -> str:
        return repr(self.get_metrics())

    def _open(self) -> list[Ledger]:
        found = [reference() for reference in self._ledgers.copy()]
        return [ledger for ledger in found if ledger is not None]

    def _host_visible(self) -> int:
        return self._standing()[0]

    def _standing(self) -> tuple[int, int]:
        """Return the host-visible bytes of all devices, and the limit."""
        host = largest = sharing = 0
        for reference in self._ledgers.copy():
            if (ledger := reference()) is not None:
                now = ledger.now
                host += now.host_visible_bytes
                if ledger.shares:
                    sharing, largest = 1, max(largest, now.limit_bytes)
        if self._limit is not None:
            return host, self._limit
        return host, largest if sharing else DEFAULT_LIMIT


_TRACKER = ProcessTracker()


def global_tracker() -> ProcessTracker:
    """Return the tracker of this process. Source: the memory management guide."""
    return _TRACKER


def check_memory_health() -> ProcessMetrics:
    """Return the figures, and warn where host-visible memory is past 75 % or 90 % of the limit."""
    metrics = global_tracker().get_metrics()
    for mark, word in ((CRITICAL, "critical"), (HIGH, "high")):
        if metrics.utilization > mark:
            warnings.warn(
                f"host-visible memory is {word}: {format_bytes(metrics.host_visible_bytes)} of "
                f"{format_bytes(metrics.limit_bytes)}, {metrics.utilization:.0%}",
                ResourceWarning,
                stacklevel=2,
            )
            break
    return metrics
