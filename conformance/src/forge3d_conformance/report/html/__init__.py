"""The report as one self-contained page."""

from forge3d_conformance.report.html.page import render

__all__ = ["render"]
