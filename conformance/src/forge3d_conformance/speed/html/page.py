"""The page: one file that needs no other."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from forge3d_conformance.speed.html.plots import draw
from forge3d_conformance.speed.results import Measured, SpeedReport


def render(report: SpeedReport) -> str:
    """Return a measurement as HTML. Raises :class:`MissingDependency` without matplotlib."""
    text = files("forge3d_conformance.speed.html").joinpath("page.html.j2").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["figure"] = figure
    return environment.from_string(text).render(
        report=report,
        plots=[(title, Markup(svg)) for title, svg in draw(report)],
        rows=sorted(report.rows, key=lambda row: (row.clause, row.size, row.ours, row.raw)),
    )


def figure(row: Measured, seconds: float) -> str:
    """Return a rate for what is judged by its speed and moves much, else a time."""
    if row.size >= 1_000_000 and row.better == "higher":
        return f"{row.size / seconds / 1e9:.2f} GB/s"
    if seconds >= 1e-2:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e6:.1f} µs" if seconds >= 1e-6 else f"{seconds * 1e9:.0f} ns"
