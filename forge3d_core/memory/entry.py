"""What the ledger counts: an entry for each reservation, and the figures with one more or one less."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from typing import Any

import attrs

from forge3d_core.arguments import shown, text
from forge3d_core.errors import BudgetError, BudgetExceeded, BudgetExhausted, UsageError
from forge3d_core.protocols import (
    BudgetMetrics,
    Heap,
    MemoryAmount,
    MemoryKind,
    MemoryUsage,
    MemoryUse,
)
from forge3d_core.units import format_bytes, parse_bytes

KINDS: tuple[MemoryKind, ...] = ("buffer", "texture")
HEAPS: tuple[Heap, ...] = ("host_visible", "device_local")
USES: tuple[MemoryUse, ...] = ("buffer", "texture", "staging", "readback")


@attrs.define(eq=False)
class Entry:
    """What the ledger knows of one reservation; it outlives the object that the caller holds."""

    nbytes: int
    kind: MemoryKind
    heap: Heap
    use: MemoryUse
    label: str = ""
    held: bool = False
    pending: bool = False  # the driver has yet to say whether there is memory behind it
    owner: weakref.ref[Any] | None = None  # to the reservation; None once it is released
    made: float = attrs.field(factory=time.monotonic)  # when


def entry_of(nbytes: int, kind: MemoryKind, heap: Heap, **said: Any) -> Entry:
    """Return an entry; ``said`` are its use (default: the kind), its label, and whether it is pending."""
    if kind not in KINDS:
        raise UsageError(f"kind is 'buffer' or 'texture', not {shown(kind)}")
    if heap not in HEAPS:
        raise UsageError(f"heap is 'host_visible' or 'device_local', not {shown(heap)}")
    text("label", said.get("label", ""))
    return Entry(parse_bytes(nbytes), kind, heap, **{"use": kind, **said})


@attrs.frozen
class Held:
    """All that the ledger counts, of one instant."""

    metrics: BudgetMetrics
    amounts: Mapping[str, MemoryAmount] = attrs.field(
        factory=lambda: dict.fromkeys((*USES, *HEAPS), MemoryAmount())
    )

    def limited(self, nbytes: int) -> Held:
        """Return the figures under another limit."""
        return Held(attrs.evolve(self.metrics, limit_bytes=nbytes), self.amounts)

    def refused(self) -> Held:
        """Return the figures with one refusal more."""
        return Held(attrs.evolve(self.metrics, refusals=self.metrics.refusals + 1), self.amounts)


def nothing_held(limit: int | str) -> Held:
    """Return the figures of a new budget."""
    return Held(BudgetMetrics(0, 0, 0, 0, 0, 0, 0, 0, 0, parse_bytes(limit), 0))


def usage_of(amounts: Mapping[str, MemoryAmount]) -> MemoryUsage:
    """Return amounts by use and by heap."""
    return MemoryUsage({use: amounts[use] for use in USES}, {heap: amounts[heap] for heap in HEAPS})


def fits(now: BudgetMetrics, entry: Entry) -> bool:
    return entry.heap == "device_local" or now.host_visible_bytes + entry.nbytes <= now.limit_bytes


def with_entry(now: Held, entry: Entry, pending: set[Entry]) -> Held:
    """Return the figures with one entry more; what is pending counts, and is no peak."""
    if entry.pending:
        return _counted(now, entry, 1)
    if pending:
        return with_peaks(_counted(now, entry, 1), pending)
    return _counted(now, entry, 1, peaks=True)


def without_entry(now: Held, entry: Entry) -> Held:
    """Return the figures with one entry less."""
    return _counted(now, entry, -1)


def granted(now: Held, entry: Entry, pending: set[Entry]) -> Held:
    """Return the figures once an entry is pending no more: it may make new peaks, where it counts."""
    return with_peaks(now, pending) if pending else _counted(now, entry, 0, peaks=True)


def with_peaks(now: Held, pending: set[Entry]) -> Held:
    """Return the figures with the peaks that they are, less what is pending.

    (Of a copy, which is made in one step: a finalizer may give something back in the middle of this.)
    """
    waiting = [entry for entry in pending.copy() if entry.held and entry.pending]
    amounts: dict[str, MemoryAmount] = {}
    for name, one in now.amounts.items():
        nbytes = one.nbytes
        for entry in waiting:
            if name in (entry.use, entry.heap):
                nbytes -= entry.nbytes
        amounts[name] = MemoryAmount(one.count, one.nbytes, nbytes) if nbytes > one.peak_bytes else one
    total = now.metrics.total_bytes - sum(entry.nbytes for entry in waiting)
    metrics = attrs.evolve(
        now.metrics,
        peak_bytes=max(now.metrics.peak_bytes, total),
        peak_host_visible_bytes=amounts["host_visible"].peak_bytes,
    )
    return Held(metrics, amounts)


def _counted(now: Held, entry: Entry, sign: int, *, peaks: bool = False) -> Held:
    # Each figure by its place, made once: this is what a reservation costs.
    m, amounts, size = now.metrics, now.amounts, sign * entry.nbytes
    use, heap, total = amounts[entry.use], amounts[entry.heap], m.total_bytes + size
    used, lies, peak = use.nbytes + size, heap.nbytes + size, m.peak_bytes
    most, highest = use.peak_bytes, heap.peak_bytes
    if peaks:
        most = used if used > most else most
        highest = lies if lies > highest else highest
        peak = total if total > peak else peak
    count = heap.count + sign
    buffers = entry.kind == "buffer"
    local = entry.heap == "device_local"
    metrics = BudgetMetrics(
        m.buffer_count + sign if buffers else m.buffer_count,
        m.buffer_bytes + size if buffers else m.buffer_bytes,
        m.texture_count if buffers else m.texture_count + sign,
        m.texture_bytes if buffers else m.texture_bytes + size,
        m.host_visible_bytes if local else lies,
        lies if local else m.device_local_bytes,
        total,
        peak,
        m.peak_host_visible_bytes if local else highest,
        m.limit_bytes,
        m.refusals,
    )
    changed = {
        **amounts,
        entry.use: MemoryAmount(use.count + sign, used, most),
        entry.heap: MemoryAmount(count, lies, highest),
    }
    return Held(metrics, changed)


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
