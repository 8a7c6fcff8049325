"""The budget: every byte by kind and heap, and a hard limit on what the host can see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, Self, runtime_checkable

import attrs

from forge3d_core.presentation import Figures, counted, line
from forge3d_core.units import format_bytes

MemoryKind = Literal["buffer", "texture"]
Heap = Literal["host_visible", "device_local"]
MemoryUse = Literal["buffer", "texture", "staging", "readback"]


@attrs.frozen
class BudgetMetrics(Figures):
    """A snapshot, all of one instant. Names from the memory management guide; sizes in bytes."""

    buffer_count: int
    buffer_bytes: int
    texture_count: int
    texture_bytes: int
    host_visible_bytes: int
    device_local_bytes: int
    total_bytes: int
    peak_bytes: int  # the highest total ever
    peak_host_visible_bytes: int
    limit_bytes: int  # on host-visible memory
    refusals: int

    @property
    def within_budget(self) -> bool:
        return self.host_visible_bytes <= self.limit_bytes

    @property
    def utilization(self) -> float:
        """Host-visible bytes over their limit; 0 for a limit of 0."""
        return self.host_visible_bytes / self.limit_bytes if self.limit_bytes else 0.0

    def __repr__(self) -> str:
        return line(
            f"budget metrics: {format_bytes(self.host_visible_bytes)} of {format_bytes(self.limit_bytes)} "
            f"host-visible, {format_bytes(self.device_local_bytes)} device-local",
            counted(self.buffer_count, "buffer"),
            counted(self.texture_count, "texture"),
            f"peak {format_bytes(self.peak_bytes)}",
            counted(self.refusals, "refusal"),
        )


@runtime_checkable
class Reservation(Protocol):
    """Bytes taken from a budget until they are released, once; later calls do nothing."""

    @property
    def nbytes(self) -> int:
        """How many bytes it holds, or held."""

    @property
    def kind(self) -> MemoryKind:
        """What for: ``buffer`` or ``texture``."""

    @property
    def heap(self) -> Heap:
        """Whose memory: ``host_visible`` or ``device_local``."""

    @property
    def released(self) -> bool:
        """Whether it was given back."""

    def release(self) -> None:
        """Give the bytes back; later calls do nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


@runtime_checkable
class BudgetTracker(Protocol):
    """Accounts for memory and refuses what would pass the limit.

    Contract
        At no instant, on any number of threads, is more than ``limit`` host-visible memory reserved.
        Device-local memory is counted and, unless the backend says otherwise, not limited. A refused
        reservation leaves no trace but the count of refusals. Before it refuses, the tracker asks
        its reclaimers to give back what they only keep for later. Three refusals are told apart:
        :class:`BudgetExceeded` is more than the limit itself, :class:`BudgetExhausted` would fit if
        others gave back, :class:`OutOfDeviceMemory` is the driver's. What another thread is just
        giving back is waited for, not refused.

        No waiter starves: one that waits for the whole limit gets it while others wait, take and
        give back. A caller that does not wait may take what is free before those who do.

        When the device closes, what is still reserved is given back. What the device made goes with
        it; what the program reserved itself and did not release is a leak, and a ``ResourceWarning``
        tells how many reservations that were and of how many bytes. From then on whatever would
        change the budget, and ``check``, raises :class:`Closed`, also for those who were waiting; the
        figures can still be read, and releasing does nothing.

    Thread-safety: all methods may be called from any thread. Callbacks run on the thread that
    crossed the mark, outside the tracker's lock.
    """

    @property
    def limit(self) -> int:
        """Host-visible bytes allowed; 512 MiB unless configured."""

    def set_limit(self, nbytes: int | str) -> None:
        """Change the limit. Below what is reserved now it refuses new reservations until it fits."""

    def reserve(
        self,
        nbytes: int,
        *,
        kind: MemoryKind = "buffer",
        heap: Heap = "host_visible",
        timeout: float | None = 0.0,
    ) -> Reservation:
        """Take ``nbytes``; wait up to ``timeout`` seconds (0: not at all, None: for ever) for room.

        Host-visible memory is given to those who wait in the order in which they came: who may wait
        stands behind them even for what would fit now. With a timeout of 0 what fits is taken at once,
        before those who wait, and what does not fit is refused; rings and pools do that.
        """

    def check(self, nbytes: int, *, heap: Heap = "host_visible") -> None:
        """Raise what ``reserve`` would raise now, without taking anything or counting a refusal.

        What reclaimers might give back is not asked for, so it may refuse where ``reserve`` succeeds.
        """

    def metrics(self) -> BudgetMetrics:
        """Return all figures, of one instant; works after close."""

    def add_reclaimer(self, reclaim: Callable[[int], int]) -> Callable[[], None]:
        """Register ``reclaim(nbytes_wanted) -> nbytes_given_back``; returns a function that removes it.

        It is called outside the tracker's lock, by the thread that wants memory, and by several at
        once. What it takes out of a cache it releases under the cache's own lock, so that the next
        thread to ask finds it either in the cache or in the budget. It may reserve memory itself.
        What it raises is logged, and the next reclaimer is asked.
        """

    def on_watermark(self, fraction: float, callback: Callable[[BudgetMetrics], None]) -> Callable[[], None]:
        """Call back each time host-visible use rises to or past ``fraction`` of the limit.

        Once per crossing: use must fall below before it calls again. Returns a function that removes
        it. The guides' marks are 0.75 and 0.90.
        """


@attrs.frozen
class MemoryAmount(Figures):
    """How many reservations there are, of how many bytes, and the most bytes that there ever were."""

    count: int = 0
    nbytes: int = 0
    peak_bytes: int = 0


@attrs.frozen
class MemoryUsage(Figures):
    """What memory is for, and where it lies, all of one instant.

    Of buffers, ``staging`` is what rings, large uploads and host arrays take, and ``readback`` what reads
    take; the rest is a ``buffer``. The uses add up to the total, and so do the heaps.
    """

    by_use: Mapping[MemoryUse, MemoryAmount]
    by_heap: Mapping[Heap, MemoryAmount]

    def __repr__(self) -> str:
        return line(
            "memory usage: "
            + ", ".join(f"{use} {format_bytes(one.nbytes)}" for use, one in self.by_use.items())
        )


@attrs.frozen
class Holding(Figures):
    """A reservation that is held; ``made_at`` is the call that made it, where that is known."""

    nbytes: int
    use: MemoryUse
    heap: Heap
    label: str
    age: float  # seconds
    made_at: str

    def __repr__(self) -> str:
        name = f" {self.label!r}" if self.label else ""
        place = f", made at {self.made_at}" if self.made_at else ""
        return f"{format_bytes(self.nbytes)} {self.heap} for a {self.use}{name}, {self.age:.3g} s old{place}"


@runtime_checkable
class DetailedBudget(BudgetTracker, Protocol):
    """A tracker that says what memory is for. Those of the core's devices do; others need not."""

    def reserve(
        self,
        nbytes: int,
        *,
        kind: MemoryKind = "buffer",
        heap: Heap = "host_visible",
        timeout: float | None = 0.0,
        label: str = "",
    ) -> Reservation:
        """Take memory as :meth:`BudgetTracker.reserve` does; ``label`` is for reports alone."""

    def available_bytes(self) -> int:
        """Return the host-visible bytes that are left now, of its limit and of that of the process."""

    def usage(self) -> MemoryUsage:
        """Return counts, bytes and peaks by use and by heap; works after close."""

    def holdings(self) -> list[Holding]:
        """Return all that is held now, the largest first, what the device itself keeps for later too.

        Where it was made is known while :mod:`tracemalloc` traces (``python -X tracemalloc=8``).
        """
