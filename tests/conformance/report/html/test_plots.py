"""Where the marks of a plot go."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_conformance.report import PerfResult
from forge3d_conformance.report.html.plots import bars, duration, interval

RATIOS = st.floats(1e-3, 1e3)


@given(st.lists(RATIOS, min_size=3, max_size=3), RATIOS)
def test_marks_lie_inside_and_in_their_order(
    speed: Callable[..., PerfResult], three: list[float], target: float
) -> None:
    low, ratio, high = sorted(three)
    plot = interval(speed(low=low, ratio=ratio, high=high, target=target))
    places = {low: plot.low, ratio: plot.median, high: plot.high, target: plot.target, 1.0: plot.raw}
    in_order = [places[value] for value in sorted(places)]
    assert in_order == sorted(in_order)
    assert min(in_order) > 0
    assert max(in_order) < 100


@given(st.floats(1e-9, 1e3), st.floats(1e-9, 1e3))
def test_the_longer_bar_is_whole(speed: Callable[..., PerfResult], ours: float, raw: float) -> None:
    lengths = bars(speed(ours_seconds=ours, raw_seconds=raw))
    assert max(lengths.ours, lengths.raw) == 100
    assert (lengths.ours >= lengths.raw) == (ours >= raw) or lengths.ours == lengths.raw == 100


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.5 s"), (0.0181, "18.1 ms"), (6.2e-7, "620 ns"), (3e-6, "3 µs"), (0, "0 ns")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
