"""What the ledger counts: an entry for each reservation, and the figures with one more or one less."""

from __future__ import annotations

import time
import weakref
from typing import Any

import attrs

from forge3d_core.arguments import shown
from forge3d_core.errors import BudgetError, BudgetExceeded, BudgetExhausted, UsageError
from forge3d_core.protocols import BudgetMetrics, Heap, MemoryKind
from forge3d_core.units import format_bytes, parse_bytes

KINDS: tuple[MemoryKind, ...] = ("buffer", "texture")
HEAPS: tuple[Heap, ...] = ("host_visible", "device_local")


@attrs.define(eq=False)
class Entry:
    """What the ledger knows of one reservation; it outlives the object that the caller holds."""

    nbytes: int
    kind: MemoryKind
    heap: Heap
    held: bool = False
    pending: bool = False  # the driver has yet to say whether there is memory behind it
    owner: weakref.ref[Any] | None = None  # to the reservation; None once it is released
    made: float = attrs.field(factory=time.monotonic)  # when


def fits(now: BudgetMetrics, entry: Entry) -> bool:
    return entry.heap == "device_local" or now.host_visible_bytes + entry.nbytes <= now.limit_bytes


def with_entry(now: BudgetMetrics, entry: Entry, pending: set[Entry]) -> BudgetMetrics:
    """Return the figures with one entry more; what is pending counts, and is no peak."""
    more = _counted(now, entry, 1)
    return more if entry.pending else with_peaks(more, pending)


def with_peaks(now: BudgetMetrics, pending: set[Entry]) -> BudgetMetrics:
    """Return the figures with the peaks that they are, less what is pending.

    (Of a copy, which is made in one step: a finalizer may give something back in the middle of this.)
    """
    entries = [entry for entry in pending.copy() if entry.held and entry.pending]
    total = now.total_bytes - sum(entry.nbytes for entry in entries)
    host = now.host_visible_bytes - sum(entry.nbytes for entry in entries if entry.heap == "host_visible")
    return attrs.evolve(
        now,
        peak_bytes=max(now.peak_bytes, total),
        peak_host_visible_bytes=max(now.peak_host_visible_bytes, host),
    )


def without_entry(now: BudgetMetrics, entry: Entry) -> BudgetMetrics:
    """Return the figures with one entry less."""
    return _counted(now, entry, -1)


def _counted(now: BudgetMetrics, entry: Entry, sign: int) -> BudgetMetrics:
    count, nbytes, heap = f"{entry.kind}_count", f"{entry.kind}_bytes", f"{entry.heap}_bytes"
    change = sign * entry.nbytes
    changed = {
        count: getattr(now, count) + sign,
        nbytes: getattr(now, nbytes) + change,
        heap: getattr(now, heap) + change,
        "total_bytes": now.total_bytes + change,
    }
    return attrs.evolve(now, **changed)


def refusal(now: BudgetMetrics, entry: Entry) -> BudgetError:
    asked, limit = format_bytes(entry.nbytes), format_bytes(now.limit_bytes)
    if entry.nbytes > now.limit_bytes:
        return BudgetExceeded(
            f"{asked} of host-visible memory is more than the whole budget of {limit}; "
            "raise it (open_device(budget=...), set_limit) or work in smaller pieces"
        )
    return BudgetExhausted(
        f"{asked} of host-visible memory do not fit now: {format_bytes(now.host_visible_bytes)} of {limit} "
        "are in use; close rings, pools or buffers, raise the budget, or wait with timeout="
    )


def entry_of(nbytes: int, kind: MemoryKind, heap: Heap) -> Entry:
    if kind not in KINDS:
        raise UsageError(f"kind is 'buffer' or 'texture', not {shown(kind)}")
    if heap not in HEAPS:
        raise UsageError(f"heap is 'host_visible' or 'device_local', not {shown(heap)}")
    return Entry(parse_bytes(nbytes), kind, heap)
