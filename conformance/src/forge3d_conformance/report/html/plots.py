"""Where the marks of a plot go: positions in per cent, so that a plot is as wide as its page."""

from __future__ import annotations

import math

import attrs

from forge3d_conformance.report.results import PerfResult

MARGIN = 1.25  # room left and right of the outermost mark, as a ratio


@attrs.frozen
class Interval:
    """A ratio with its confidence interval on a logarithmic axis, 0 to 100 from left to right."""

    low: float
    median: float
    high: float
    target: float
    raw: float  # where the ratio is 1: as fast as the raw API

    @property
    def width(self) -> float:
        return round(self.high - self.low, 2)


@attrs.frozen
class Bars:
    """Two times beside each other, as lengths from 0 to 100; the longer is 100."""

    ours: float
    raw: float


def interval(result: PerfResult) -> Interval:
    """Return the plot of a ratio: the axis holds its interval, its target and the raw API."""
    marks = (result.low, result.high, result.target, 1.0)
    start, end = math.log(min(marks) / MARGIN), math.log(max(marks) * MARGIN)

    def place(value: float) -> float:
        return round(100 * (math.log(value) - start) / (end - start), 2)

    return Interval(
        low=place(result.low),
        median=place(result.ratio),
        high=place(result.high),
        target=place(result.target),
        raw=place(1.0),
    )


def bars(result: PerfResult) -> Bars:
    longest = max(result.ours_seconds, result.raw_seconds)
    return Bars(
        ours=round(100 * result.ours_seconds / longest, 2), raw=round(100 * result.raw_seconds / longest, 2)
    )


def duration(seconds: float) -> str:
    """Return a time for people, to three figures: ``'1.81 ms'``."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns")):
        if seconds * factor >= 1 or unit == "ns":
            return f"{seconds * factor:.3g} {unit}"
    raise AssertionError("unreachable")
