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
    more = _counted(now, entry, 1)
    return more if entry.pending else with_peaks(more, pending)


def without_entry(now: Held, entry: Entry) -> Held:
    """Return the figures with one entry less."""
    return _counted(now, entry, -1)


def with_peaks(now: Held, pending: set[Entry]) -> Held:
    """Return the figures with the peaks that they are, less what is pending.

    (Of a copy, which is made in one step: a finalizer may give something back in the middle of this.)
    """
    waiting = [entry for entry in pending.copy() if entry.held and entry.pending] if pending else []
    amounts: dict[str, MemoryAmount] = {}
    for name, one in now.amounts.items():
        nbytes = one.nbytes
        for entry in waiting:
            if name in (entry.use, entry.heap):
                nbytes -= entry.nbytes
        amounts[name] = MemoryAmount(one.count, one.nbytes, nbytes) if nbytes > one.peak_bytes else one
    m = now.metrics
    metrics = BudgetMetrics(
        m.buffer_count,
        m.buffer_bytes,
        m.texture_count,
        m.texture_bytes,
        m.host_visible_bytes,
        m.device_local_bytes,
        m.total_bytes,
        max(m.peak_bytes, m.total_bytes - sum(entry.nbytes for entry in waiting)),
        amounts["host_visible"].peak_bytes,
        m.limit_bytes,
        m.refusals,
    )
    return Held(metrics, amounts)


def _counted(now: Held, entry: Entry, sign: int) -> Held:
    # Each figure by its place: this is what a reservation costs.
    m, nbytes = now.metrics, sign * entry.nbytes
    textures, local = entry.kind == "texture", entry.heap == "device_local"
    metrics = BudgetMetrics(
        m.buffer_count + (0 if textures else sign),
        m.buffer_bytes + (0 if textures else nbytes),
        m.texture_count + (sign if textures else 0),
        m.texture_bytes + (nbytes if textures else 0),
        m.host_visible_bytes + (0 if local else nbytes),
        m.device_local_bytes + (nbytes if local else 0),
        m.total_bytes + nbytes,
        m.peak_bytes,
        m.peak_host_visible_bytes,
        m.limit_bytes,
        m.refusals,
    )
    use, heap = now.amounts[entry.use], now.amounts[entry.heap]
    return Held(
        metrics,
        {
            **now.amounts,
            entry.use: MemoryAmount(use.count + sign, use.nbytes + nbytes, use.peak_bytes),
            entry.heap: MemoryAmount(heap.count + sign, heap.nbytes + nbytes, heap.peak_bytes),
        },
    )


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
