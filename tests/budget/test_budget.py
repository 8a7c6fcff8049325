"""The ledger: what it counts, what it refuses, and its limit."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from forge3d_core.errors import BudgetExceeded, BudgetExhausted, UsageError
from forge3d_core.memory.budget import DEFAULT_LIMIT, Ledger
from forge3d_core.protocols import BudgetMetrics, BudgetTracker, Reservation
from forge3d_core.units import MIB


def test_the_ledger_satisfies_its_protocols(ledger: Ledger) -> None:
    assert isinstance(ledger, BudgetTracker)
    assert isinstance(ledger.reserve(1), Reservation)


def test_the_limit_is_512_mib_unless_configured() -> None:
    assert Ledger().limit == DEFAULT_LIMIT == 512 * MIB
    assert Ledger("1 KiB").limit == 1024


def test_kinds_and_heaps_are_told_apart(ledger: Ledger) -> None:
    held = [
        ledger.reserve(10),
        ledger.reserve(20, kind="texture"),
        ledger.reserve(1000, heap="device_local"),
        ledger.reserve(2000, kind="texture", heap="device_local"),
    ]
    assert ledger.metrics() == BudgetMetrics(2, 1010, 2, 2020, 30, 3000, 3030, 3030, 30, 100, 0)
    assert [(r.nbytes, r.kind, r.heap, r.released) for r in held[:2]] == [
        (10, "buffer", "host_visible", False),
        (20, "texture", "host_visible", False),
    ]
    for reservation in held:
        reservation.release()
        assert reservation.released
    assert ledger.metrics() == BudgetMetrics(0, 0, 0, 0, 0, 0, 0, 3030, 30, 100, 0)


def test_use_against_the_limit(ledger: Ledger) -> None:
    ledger_none = Ledger(0)
    assert (ledger_none.metrics().utilization, ledger_none.metrics().within_budget) == (0.0, True)
    held = ledger.reserve(75)
    assert ledger.metrics().utilization == 0.75
    ledger.set_limit(50)
    assert not ledger.metrics().within_budget
    held.release()


def test_the_limit_itself_fits_and_a_byte_more_never_does(ledger: Ledger) -> None:
    ledger.reserve(100).release()
    with pytest.raises(BudgetExceeded, match=r"101 B.*whole budget of 100 B"):
        ledger.reserve(101)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(101, timeout=None)  # no wait would help
    with pytest.raises(MemoryError):
        ledger.check(101)


def test_a_refusal_leaves_no_trace_but_its_count(ledger: Ledger) -> None:
    held = ledger.reserve(60)
    before = ledger.metrics()
    with pytest.raises(BudgetExhausted, match=r"41 B.*60 B of 100 B"):
        ledger.reserve(41)
    with pytest.raises(BudgetExhausted):
        ledger.check(41)
    ledger.check(40)
    ledger.check(10_000, heap="device_local")
    after = ledger.metrics()
    assert after.refusals == 1
    assert (after.total_bytes, after.peak_bytes, after.buffer_count) == (
        before.total_bytes,
        before.peak_bytes,
        before.buffer_count,
    )
    held.release()


def test_nothing_fits_in_no_budget() -> None:
    ledger = Ledger(0)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(1)
    ledger.reserve(0).release()
    ledger.reserve(1, heap="device_local").release()


def test_releasing_is_once(ledger: Ledger) -> None:
    with ledger.reserve(60) as held:
        held.release()
        other = ledger.reserve(60)
        held.release()
    assert ledger.metrics().host_visible_bytes == 60
    other.release()


def test_a_dropped_reservation_gives_back(ledger: Ledger) -> None:
    held = ledger.reserve(100)
    del held
    gc.collect()
    ledger.reserve(100).release()
    assert ledger.metrics().total_bytes == 0


@pytest.mark.parametrize(
    "wrong", [{"nbytes": -1}, {"nbytes": 1.5}, {"nbytes": 1, "kind": "mesh"}, {"nbytes": 1, "heap": "stack"}]
)
def test_what_is_no_reservation(ledger: Ledger, wrong: Any) -> None:
    with pytest.raises(UsageError):
        ledger.reserve(**wrong)
    assert ledger.metrics().buffer_count == 0


def test_the_limit_can_be_changed(ledger: Ledger) -> None:
    held = ledger.reserve(80)
    ledger.set_limit(40)
    with pytest.raises(BudgetExhausted):
        ledger.reserve(1)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(41)
    held.release()
    ledger.reserve(40).release()
    ledger.set_limit("1 KiB")
    assert ledger.limit == ledger.metrics().limit_bytes == 1024
    ledger.reserve(1024).release()
    with pytest.raises(UsageError):
        ledger.set_limit(-1)
