"""What the plots show, taken from a report's rows; nothing here draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from forge3d_conformance.speed.results import Measured, SpeedReport

UP = ("upload", "staged-upload")
DOWN = ("read", "read-into", "lease")
LIMITS = frozenset(
    {
        *("cupy/pinned-up", "cupy/pinned-down", "wgpu-py/staged-up", "wgpu-py/staged-down"),
        *("thread/copy", "numpy/copyto"),
    }
)
"""Copies that nothing is faster than: the best of them is drawn as a line."""

NAMES: Mapping[str, str] = {
    "upload": "forge3d upload",
    "staged-upload": "forge3d slice",
    "read": "forge3d read, fresh array",
    "read-into": "forge3d read, out=",
    "lease": "forge3d lease",
}
LARGE = 100_000
"""From this many bytes a row is about throughput."""

IN_FLIGHT: Mapping[str, tuple[str, int]] = {
    "read": ("forge3d, one by one", 1),
    "read-many-8": ("forge3d, one by one", 8),
    "read-many-64": ("forge3d, one by one", 64),
    "read-many": ("forge3d, one by one", 512),
    "read-batch-8": ("forge3d, in one call", 8),
    "read-batch-64": ("forge3d, in one call", 64),
    "read-batch": ("forge3d, in one call", 512),
    "read-asyncio": ("forge3d, asyncio", 512),
}
"""Operations on small reads: their curve, and how many are in flight."""


@attrs.frozen
class Curve:
    """Points (x, y) by ascending x. ``ours``: whether it is forge3d's."""

    name: str
    ours: bool
    points: tuple[tuple[float, float], ...]


@attrs.frozen
class Picture:
    """Curves over one another; ``limit`` is drawn as a line across, with its name."""

    curves: tuple[Curve, ...]
    limit: tuple[str, float] | None


def throughput(report: SpeedReport, operations: tuple[str, ...]) -> Picture:
    """Return bytes a second against bytes, of these operations and of what they were measured beside."""
    rows = [row for row in report.rows if row.ours in operations and row.size >= LARGE]
    found: dict[tuple[str, bool], dict[float, float]] = {}
    limits: dict[str, float] = {}
    for row in rows:
        found.setdefault((NAMES[row.ours], True), {})[row.size] = row.size / row.ours_seconds
        speed = row.size / row.raw_seconds
        if row.raw in LIMITS:
            limits[row.raw] = max(limits.get(row.raw, 0.0), speed)
        found.setdefault((row.raw, False), {})[row.size] = speed
    best = max(limits.items(), key=lambda each: each[1], default=None)
    return Picture(tuple(_curves(found)), best)


def latency(report: SpeedReport) -> Picture:
    """Return seconds a read against how many are in flight; the line is the raw API's one at a time."""
    found: dict[tuple[str, bool], dict[float, float]] = {}
    raw: tuple[str, float] | None = None
    for row in report.rows:
        if row.ours in IN_FLIGHT and 0 < row.size < LARGE:
            name, count = IN_FLIGHT[row.ours]
            found.setdefault((name, True), {})[count] = row.ours_seconds
            if row.ours == "read":
                raw = (row.raw, row.raw_seconds)
    return Picture(tuple(_curves(found)), raw)


def judged(report: SpeedReport) -> list[Measured]:
    """Return the rows that have a target, the worst first."""
    rows = [row for row in report.rows if row.aim is not None]
    return sorted(rows, key=lambda row: towards(row, row.ratio))


def towards(row: Measured, value: float) -> float:
    """Return a ratio as a part of its target: 1 is met, more is better, whichever way the row counts."""
    assert row.target is not None
    return value / row.target if row.better == "higher" else row.target / value


def _curves(found: Mapping[tuple[str, bool], Mapping[float, float]]) -> Iterator[Curve]:
    for (name, ours), points in found.items():
        yield Curve(name, ours, tuple(sorted(points.items())))
