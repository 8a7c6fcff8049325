"""Times of named operations."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from forge3d_core.errors import StateError
from forge3d_core.pipeline import AsyncPerformanceMonitor


def test_the_figures_of_a_name() -> None:
    monitor = AsyncPerformanceMonitor()
    for number in range(1, 101):
        monitor.note("render", number / 1e3, frame=number)
    figures = monitor.get_summary()["render"]
    assert (figures.count, figures.min_time_ms, figures.max_time_ms) == (100, 1, 100)
    assert (figures.p50_ms, figures.p90_ms, figures.p99_ms) == pytest.approx((50, 90, 99))
    assert figures.avg_time_ms == pytest.approx(50.5)
    assert figures.total_time_ms == pytest.approx(5050)
    assert figures.metadata[-1] == {"frame": 100}
    assert len(figures.metadata) == 16
    monitor.reset()
    assert monitor.get_summary() == {}


def test_percentiles_are_of_the_newest() -> None:
    monitor = AsyncPerformanceMonitor(kept=10)
    for number in range(100):
        monitor.note("render", number / 1e3)
    figures = monitor.get_summary()["render"]
    assert (figures.count, figures.min_time_ms, figures.p50_ms) == (100, 0, pytest.approx(94))


def test_operations_overlap_by_key_and_nest() -> None:
    monitor = AsyncPerformanceMonitor()
    monitor.start_operation("frame", key=1)
    monitor.start_operation("frame", key=2)
    assert monitor.end_operation("frame", key=1, size=3) >= 0
    monitor.end_operation("frame", key=2)
    with monitor.operation("frame"), monitor.operation("upload"):
        pass
    with pytest.raises(ValueError, match="x"), monitor.operation("frame"):
        raise ValueError("x")
    assert {name: figures.count for name, figures in monitor.get_summary().items()} == {
        "frame": 4,
        "upload": 1,
    }


def test_what_was_not_begun_cannot_end() -> None:
    monitor = AsyncPerformanceMonitor()
    with pytest.raises(StateError, match="start_operation"):
        monitor.end_operation("frame")
    monitor.start_operation("frame")
    monitor.end_operation("frame")
    with pytest.raises(StateError):
        monitor.end_operation("frame")


def test_off_it_notes_nothing_and_costs_a_test() -> None:
    monitor = AsyncPerformanceMonitor(enabled=False)
    calls = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(note)
    try:
        monitor.start_operation("frame")
        monitor.end_operation("frame")
    finally:
        sys.setprofile(None)
    assert calls == 2
    assert monitor.get_summary() == {}
