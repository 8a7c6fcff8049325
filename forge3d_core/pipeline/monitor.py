"""How long named operations take."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import attrs

from forge3d_core.arguments import at_least, text
from forge3d_core.errors import StateError
from forge3d_core.presentation import Figures, line

KEPT = 4096
"""Durations of one name that percentiles are taken from: the newest."""


@attrs.frozen
class OperationMetrics(Figures):
    """The figures of one name; times in milliseconds. Percentiles are of the newest 4096."""

    count: int
    total_time_ms: float
    min_time_ms: float
    max_time_ms: float
    avg_time_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    metadata: tuple[dict[str, Any], ...] = ()  # of the newest, as given to end_operation

    def __repr__(self) -> str:
        return line(
            f"{self.count} operations",
            f"{self.avg_time_ms:.3g} ms each",
            f"p99 {self.p99_ms:.3g} ms",
        )


@attrs.define(eq=False)
class _Record:
    count: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = 0.0
    newest: list[float] = attrs.field(factory=list)
    metadata: list[dict[str, Any]] = attrs.field(factory=list)

    def add(self, seconds: float, metadata: dict[str, Any], kept: int) -> None:
        if len(self.newest) < kept:
            self.newest.append(seconds)
        else:
            self.newest[self.count % kept] = seconds
        self.count += 1
        self.total += seconds
        self.least, self.most = min(self.least, seconds), max(self.most, seconds)
        if metadata:
            self.metadata.append(metadata)
            del self.metadata[:-16]

    def metrics(self) -> OperationMetrics:
        ordered = sorted(self.newest)

        def percentile(share: float) -> float:
            return 1e3 * ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]

        return OperationMetrics(
            count=self.count,
            total_time_ms=1e3 * self.total,
            min_time_ms=1e3 * self.least,
            max_time_ms=1e3 * self.most,
            avg_time_ms=1e3 * self.total / self.count,
            p50_ms=percentile(0.5),
            p90_ms=percentile(0.9),
            p99_ms=percentile(0.99),
            metadata=tuple(self.metadata),
        )


class AsyncPerformanceMonitor:
    """Takes the time of named operations, which may overlap, nest and run on any threads.

    ``enabled=False``: nothing is noted, and :meth:`operation` costs one test. Source: async operations guide,
    "AsyncPerformanceMonitor".

    Thread-safety: any thread. Operations of one name that a thread has under way end in the order in which
    they began; an operation begun on one thread and ended on another is given a ``key``.
    """

    def __init__(self, *, enabled: bool = True, kept: int = KEPT) -> None:
        self.enabled = enabled
        self._kept = at_least(1, "kept", kept)
        self._records: dict[str, _Record] = {}
        self._begun: dict[tuple[str, object], list[float]] = {}
        self._lock = threading.RLock()

    def start_operation(self, operation_name: str, key: object = None) -> None:
        """Begin an operation; ``key`` tells those of one name apart (default: the calling thread)."""
        if self.enabled:
            where = text("operation_name", operation_name), threading.get_ident() if key is None else key
            with self._lock:
                self._begun.setdefault(where, []).append(time.perf_counter())

    def end_operation(self, operation_name: str, key: object = None, **metadata: Any) -> float:
        """End an operation and return the seconds it took; ``metadata`` is kept with its name.

        Raises :class:`StateError` for one that was not begun.
        """
        now = time.perf_counter()
        if not self.enabled:
            return 0.0
        where = operation_name, threading.get_ident() if key is None else key
        with self._lock:
            begun = self._begun.get(where)
            if not begun:
                raise StateError(f"operation {operation_name!r} was not started: start_operation begins one")
            seconds = now - begun.pop(0)
            if not begun:
                del self._begun[where]
            self._records.setdefault(operation_name, _Record()).add(seconds, metadata, self._kept)
        return seconds

    def note(self, operation_name: str, seconds: float, **metadata: Any) -> None:
        """Add one operation that was timed elsewhere."""
        if self.enabled:
            with self._lock:
                self._records.setdefault(operation_name, _Record()).add(seconds, metadata, self._kept)

    @contextlib.contextmanager
    def operation(self, operation_name: str, **metadata: Any) -> Iterator[None]:
        """Time a ``with`` block, also one that raises."""
        if not self.enabled:
            yield
            return
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.note(operation_name, time.perf_counter() - begun, **metadata)

    def get_summary(self) -> dict[str, OperationMetrics]:
        """Return the figures of each name, all of one instant."""
        with self._lock:
            return {name: record.metrics() for name, record in self._records.items()}

    def reset(self) -> None:
        """Forget all that has ended; what is under way goes on."""
        with self._lock:
            self._records.clear()

    def __repr__(self) -> str:
        state = "" if self.enabled else "off"
        return line(f"performance monitor of {len(self._records)} operation(s)", state)
