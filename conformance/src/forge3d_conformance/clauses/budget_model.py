"""What a budget must say, kept the plain way."""

from __future__ import annotations

import attrs

from forge3d_core.errors import BudgetError, BudgetExceeded, BudgetExhausted
from forge3d_core.protocols import BudgetMetrics, Heap, MemoryKind

LIMIT = 1 << 20
KINDS: tuple[MemoryKind, ...] = ("buffer", "texture")
HEAPS: tuple[Heap, ...] = ("host_visible", "device_local")
FORGOTTEN = {"peak_bytes": 0, "peak_host_visible_bytes": 0, "refusals": 0}


def held(metrics: BudgetMetrics) -> BudgetMetrics:
    """Return the part of the metrics that goes back when everything is given back."""
    return attrs.evolve(metrics, **FORGOTTEN)


@attrs.define
class Model:
    """What a tracker must say, kept the plain way."""

    limit: int
    base: BudgetMetrics
    taken: dict[int, tuple[int, MemoryKind, Heap]] = attrs.field(factory=dict)
    peak: int = 0
    peak_host: int = 0
    refusals: int = 0

    def __attrs_post_init__(self) -> None:
        self.peak, self.peak_host = self.base.peak_bytes, self.base.peak_host_visible_bytes
        self.refusals = self.base.refusals

    def nbytes(self, kind: MemoryKind | None = None, heap: Heap | None = None) -> int:
        return sum(n for n, k, h in self.taken.values() if kind in (None, k) and heap in (None, h))

    @property
    def host(self) -> int:
        return self.base.host_visible_bytes + self.nbytes(heap="host_visible")

    def allows(self, nbytes: int, heap: Heap) -> bool:
        return heap == "device_local" or self.host + nbytes <= self.limit

    def refusal(self, nbytes: int) -> type[BudgetError]:
        return BudgetExceeded if nbytes > self.limit else BudgetExhausted

    def take(self, key: int, nbytes: int, kind: MemoryKind, heap: Heap) -> None:
        self.taken[key] = (nbytes, kind, heap)
        self.peak = max(self.peak, self.base.total_bytes + self.nbytes())
        self.peak_host = max(self.peak_host, self.host)

    def metrics(self) -> BudgetMetrics:
        count = {kind: sum(k == kind for _, k, _ in self.taken.values()) for kind in KINDS}
        device = self.base.device_local_bytes + self.nbytes(heap="device_local")
        return BudgetMetrics(
            buffer_count=self.base.buffer_count + count["buffer"],
            buffer_bytes=self.base.buffer_bytes + self.nbytes("buffer"),
            texture_count=self.base.texture_count + count["texture"],
            texture_bytes=self.base.texture_bytes + self.nbytes("texture"),
            host_visible_bytes=self.host,
            device_local_bytes=device,
            total_bytes=self.host + device,
            peak_bytes=self.peak,
            peak_host_visible_bytes=self.peak_host,
            limit_bytes=self.limit,
            refusals=self.refusals,
        )
