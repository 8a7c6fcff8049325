"""The plots, as SVG, drawn with matplotlib, which is an optional dependency."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from forge3d_conformance.report import Aim
from forge3d_conformance.speed.html.curves import (
    DOWN,
    UP,
    Picture,
    judged,
    latency,
    throughput,
    towards,
)
from forge3d_conformance.speed.results import Measured, SpeedReport
from forge3d_core.errors import MissingDependency

FIX = "pip install 'forge3d-conformance[bench]'"
OURS = ("#0b5cad", "#3f8fd9", "#7a4fc0")
PEERS = ("#8a8f98", "#b0762f", "#5b8c5a", "#a05252", "#6f6f9e")
LIMIT = "#c0392b"
AIMS = {Aim.MET: "#2e8b57", Aim.MISSED: "#c0392b", Aim.INCONCLUSIVE: "#d39e00"}
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
BINARY = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))


def need_matplotlib() -> None:
    """Raise :class:`MissingDependency` unless plots can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingDependency(f"the page's plots take matplotlib ({error}); try: {FIX}", fix=FIX) from None


def draw(report: SpeedReport) -> Iterator[tuple[str, str]]:
    """Yield each plot's title and SVG; those without a point are left out."""
    for title, operations in (("Upload", UP), ("Download", DOWN)):
        if (picture := throughput(report, operations)).curves:
            yield f"{title}: throughput against size", _svg(_throughput(picture), title)
    if (picture := latency(report)).curves:
        yield (
            "Reads of 4 KiB: time for each against how many are in flight",
            _svg(_latency(picture), "latency"),
        )
    if rows := judged(report):
        yield "Every ratio as a part of its target", _svg(_targets(rows), "targets")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, which="major", color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _throughput(picture: Picture) -> Any:
    figure, axes = _figure(8.4, 4.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _lines(axes, picture)
    if picture.limit is not None:
        name, speed = picture.limit
        passed = any(y > speed for curve in picture.curves if curve.ours for _, y in curve.points)
        told = "fastest raw copy" if passed else "limit"  # caches may pass memory's limit, not a link's
        axes.axhline(speed, color=LIMIT, linestyle="--", linewidth=1.2)
        axes.annotate(
            f"{told}: {name}, {amount(speed)}/s",
            (0.01, speed),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4),
            textcoords="offset points",
            color=LIMIT,
            fontsize=9,
        )
    axes.set_xlabel("bytes moved by one operation")
    axes.set_ylabel("bytes a second")
    sizes = sorted({x for curve in picture.curves for x, _ in curve.points})
    _ticks(axes.xaxis, [(size, amount(size)) for size in sizes])
    low, high = axes.get_ylim()
    speeds = [step * unit for unit in (1e6, 1e7, 1e8, 1e9, 1e10, 1e11) for step in (1, 2, 5)]
    _ticks(axes.yaxis, [(speed, f"{amount(speed)}/s") for speed in speeds if low <= speed <= high])
    axes.set_ylim(low, high * 1.15)
    return figure


def _latency(picture: Picture) -> Any:
    figure, axes = _figure(8.4, 4.2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _lines(axes, picture)
    if picture.limit is not None:
        name, seconds = picture.limit
        axes.axhline(seconds, color=LIMIT, linestyle="--", linewidth=1.2)
        axes.annotate(
            f"{name}, one at a time: {seconds * 1e6:,.{0 if seconds >= 1e-4 else 1}f} µs",
            (0.01, seconds),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4),
            textcoords="offset points",
            color=LIMIT,
            fontsize=9,
        )
    axes.set_xlabel("reads in flight")
    axes.set_ylabel("time for each read")
    counts = sorted({x for curve in picture.curves for x, _ in curve.points})
    _ticks(axes.xaxis, [(count, f"{count:g}") for count in counts])
    low, high = axes.get_ylim()
    times = [step * unit for unit in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2) for step in (1, 2, 5)]
    _ticks(axes.yaxis, [(time, f"{time * 1e6:g} µs") for time in times if low <= time <= high])
    return figure


def _targets(rows: list[Measured]) -> Any:
    figure, axes = _figure(8.4, 1.2 + 0.26 * len(rows))
    axes.set_xscale("log")
    for place, row in enumerate(reversed(rows)):
        assert row.aim is not None
        colour = AIMS[row.aim]
        ends = sorted((towards(row, row.low), towards(row, row.high)))
        axes.plot(ends, [place, place], color=colour, linewidth=3, solid_capstyle="round", alpha=0.45)
        axes.plot(towards(row, row.ratio), place, "o", color=colour, markersize=5)
    axes.axvline(1.0, color="#333333", linewidth=1.2)
    axes.set_yticks(range(len(rows)), [_label(row) for row in reversed(rows)], fontsize=8)
    axes.set_ylim(-0.8, len(rows) - 0.2)
    axes.set_xlabel("missed  ←  part of the target  →  met")
    low, high = axes.get_xlim()
    steps = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
    _ticks(axes.xaxis, [(step, f"{step:g}") for step in steps if low <= step <= high])
    return figure


def _lines(axes: Any, picture: Picture) -> None:
    ours, peers = iter(OURS * 3), iter(PEERS * 3)
    for curve in sorted(picture.curves, key=lambda curve: not curve.ours):
        xs, ys = zip(*curve.points, strict=True)
        style = {"linewidth": 2.4, "zorder": 3} if curve.ours else {"linewidth": 1.2, "linestyle": "-"}
        colour = next(ours if curve.ours else peers)
        axes.plot(xs, ys, marker="o", markersize=5, color=colour, label=curve.name, **style)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _ticks(axis: Any, ticks: list[tuple[float, str]]) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_ticks([value for value, _ in ticks], [text for _, text in ticks])
    axis.set_minor_locator(NullLocator())


def amount(value: float) -> str:
    """Tell bytes: in binary units where these are a round number, 15 625 KiB being none."""
    for unit, name in BINARY:
        if value >= unit and value % unit == 0 and value / unit < 1024:
            return f"{value / unit:g} {name}"
    for unit, name in UNITS:
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.3g} B"


def _label(row: Measured) -> str:
    size = f" {amount(row.size)}" if row.size else ""
    return f"{row.ours}{size} : {row.raw}"


def _svg(figure: Any, salt: str) -> str:
    """Return a figure as an element to stand in a page; ``salt`` keeps its ids apart from other figures'."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none", "font.family": "sans-serif"}):
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = file.getvalue()
    return text[text.index("<svg") :]
