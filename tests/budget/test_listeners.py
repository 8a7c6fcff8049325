"""Who listens to a ledger: reclaimers before a refusal, watermarks at a crossing."""

from __future__ import annotations

from typing import Any

import pytest

from forge3d_core.errors import BudgetExceeded, BudgetExhausted, UsageError
from forge3d_core.memory.budget import Ledger
from forge3d_core.protocols import BudgetMetrics


def test_reclaimers_are_asked_before_a_refusal(ledger: Ledger) -> None:
    kept = [ledger.reserve(30), ledger.reserve(30), ledger.reserve(30)]
    asked: list[int] = []

    def reclaim(nbytes: int) -> int:
        asked.append(nbytes)
        given = 0
        while kept and given < nbytes:
            given += kept[-1].nbytes
            kept.pop().release()
        return given

    forget = ledger.add_reclaimer(reclaim)
    held = ledger.reserve(50)
    assert asked == [40]
    assert len(kept) == 1
    assert ledger.metrics().refusals == 0
    with pytest.raises(BudgetExceeded):
        ledger.reserve(101)
    assert len(kept) == 1, "given back for what can never fit"
    forget()
    forget()
    with pytest.raises(BudgetExhausted):
        ledger.reserve(50)
    assert len(asked) == 1
    held.release()


@pytest.mark.parametrize("answer", [LookupError("a mistake"), None, "much"], ids=repr)
def test_a_reclaimer_that_fails_keeps_nobody_from_memory(
    ledger: Ledger, caplog: pytest.LogCaptureFixture, answer: object
) -> None:
    def wrong(_nbytes: int) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    kept = [ledger.reserve(80)]
    ledger.add_reclaimer(wrong)
    with pytest.raises(BudgetExhausted):
        ledger.reserve(50)
    ledger.add_reclaimer(lambda _nbytes: (kept.pop().release(), 80)[1])
    ledger.reserve(50).release()
    assert caplog.text.count("a reclaimer that was asked for 30 B failed") == 2


def test_a_reclaimer_may_use_the_ledger(ledger: Ledger) -> None:
    kept = ledger.reserve(100)

    def reclaim(_nbytes: int) -> int:
        with pytest.raises(BudgetExhausted):
            ledger.check(1)
        kept.release()
        return 100

    ledger.add_reclaimer(reclaim)
    ledger.reserve(100).release()


def test_watermarks_call_once_per_crossing(ledger: Ledger) -> None:
    seen: list[tuple[float, int]] = []
    forget = [
        ledger.on_watermark(mark, lambda metrics, mark=mark: seen.append((mark, metrics.host_visible_bytes)))
        for mark in (0.75, 0.90)
    ]
    low = ledger.reserve(74)
    ledger.reserve(1000, heap="device_local").release()
    assert not seen
    one = ledger.reserve(1)
    more = ledger.reserve(10)
    assert seen == [(0.75, 75)]
    top = ledger.reserve(15)
    assert seen == [(0.75, 75), (0.90, 100)]
    top.release()
    top = ledger.reserve(15)
    assert seen[2:] == [(0.90, 100)]
    for held in (top, more, one):
        held.release()
    ledger.set_limit(80)
    assert seen[3:] == [(0.75, 74), (0.90, 74)]
    ledger.set_limit(100)
    for remove in forget:
        remove()
    ledger.reserve(20).release()
    assert len(seen) == 5
    low.release()


def test_a_watermark_already_passed_is_told_at_once_and_may_use_the_ledger(ledger: Ledger) -> None:
    held = ledger.reserve(90)
    seen: list[int] = []

    def callback(_metrics: BudgetMetrics) -> None:
        seen.append(ledger.metrics().host_visible_bytes)

    ledger.on_watermark(0.5, callback)
    assert seen == [90]
    held.release()


def test_a_callback_that_raises_costs_no_reservation(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_metrics: BudgetMetrics) -> None:
        raise RuntimeError("somebody's mistake")

    ledger.on_watermark(0.5, fail)
    ledger.reserve(60).release()
    assert ledger.metrics().host_visible_bytes == 0
    assert "somebody's mistake" in caplog.text


@pytest.mark.parametrize("timeout", [0.0, 1.0])
def test_a_callback_that_ends_the_program_leaves_nothing_reserved(ledger: Ledger, timeout: float) -> None:
    def end(_metrics: BudgetMetrics) -> None:
        raise SystemExit("too much")

    forget = ledger.on_watermark(0.5, end)
    with pytest.raises(SystemExit) as ended:
        ledger.reserve(60, timeout=timeout)
    assert ledger.metrics().total_bytes == 0, "while the traceback is kept, as it is here"
    assert ended.traceback
    forget()
    ledger.reserve(100).release()


@pytest.mark.parametrize("fraction", [0, -1, 1.1, float("nan")])
def test_marks_are_fractions(ledger: Ledger, fraction: float) -> None:
    with pytest.raises(UsageError, match="fraction"):
        ledger.on_watermark(fraction, lambda _metrics: None)
