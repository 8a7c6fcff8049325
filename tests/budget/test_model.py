"""The ledger against a model of it."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forge3d_core.errors import BudgetExceeded, BudgetExhausted
from forge3d_core.memory.budget import Ledger, LedgerReservation
from forge3d_core.protocols import BudgetMetrics


class LedgerModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.limit = 1000
        self.ledger = Ledger(self.limit)
        self.held: list[LedgerReservation] = []
        self.rows: list[tuple[int, str, str]] = []
        self.refusals = self.peak = self.peak_host = 0
        self.calls: list[int] = []
        self.ledger.on_watermark(0.75, lambda metrics: self.calls.append(metrics.host_visible_bytes))
        self.above = False
        self.crossings = 0

    def total(self, **where: str) -> int:
        return sum(
            n
            for n, kind, heap in self.rows
            if where.get("kind", kind) == kind and where.get("heap", heap) == heap
        )

    def note(self) -> None:
        host = self.total(heap="host_visible")
        self.peak, self.peak_host = max(self.peak, self.total()), max(self.peak_host, host)
        above = host > 0 and host * 4 >= self.limit * 3
        self.crossings += above and not self.above
        self.above = above

    @rule(
        nbytes=st.integers(0, 1200),
        kind=st.sampled_from(["buffer", "texture"]),
        heap=st.sampled_from(["host_visible", "host_visible", "device_local"]),
        ask=st.booleans(),
    )
    def reserve(self, nbytes: int, kind: Any, heap: Any, ask: bool) -> None:
        error: type[Exception] | None = None
        if heap == "host_visible" and nbytes > self.limit:
            error = BudgetExceeded
        elif heap == "host_visible" and self.total(heap=heap) + nbytes > self.limit:
            error = BudgetExhausted

        def call() -> Any:
            return (
                self.ledger.check(nbytes, heap=heap)
                if ask
                else self.ledger.reserve(nbytes, kind=kind, heap=heap)
            )

        if error is not None:
            self.refusals += not ask
            with pytest.raises(error):
                call()
            return
        made = call()
        if not ask:
            self.held.append(made)
            self.rows.append((nbytes, kind, heap))
            self.note()

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99), drop=st.booleans())
    def give_back(self, which: int, drop: bool) -> None:
        which %= len(self.held)
        reservation = self.held.pop(which)
        self.rows.pop(which)
        if not drop:
            reservation.release()
            reservation.release()
        del reservation
        gc.collect(0)
        self.ledger.metrics()  # a dropped one is noticed when somebody asks
        self.note()

    @rule(limit=st.integers(0, 1500))
    def set_limit(self, limit: int) -> None:
        self.limit = limit
        self.ledger.set_limit(limit)
        self.note()

    @invariant()
    def metrics_are_the_models(self) -> None:
        assert self.ledger.metrics() == BudgetMetrics(
            buffer_count=sum(kind == "buffer" for _, kind, _ in self.rows),
            buffer_bytes=self.total(kind="buffer"),
            texture_count=sum(kind == "texture" for _, kind, _ in self.rows),
            texture_bytes=self.total(kind="texture"),
            host_visible_bytes=self.total(heap="host_visible"),
            device_local_bytes=self.total(heap="device_local"),
            total_bytes=self.total(),
            peak_bytes=self.peak,
            peak_host_visible_bytes=self.peak_host,
            limit_bytes=self.limit,
            refusals=self.refusals,
        )
        assert len(self.calls) == self.crossings


TestLedgerModel = LedgerModel.TestCase
TestLedgerModel.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
