"""A measurement as a page for people: tables, and plots where matplotlib is installed."""

from forge3d_conformance.speed.html.page import render
from forge3d_conformance.speed.html.plots import need_matplotlib

__all__ = ["need_matplotlib", "render"]
