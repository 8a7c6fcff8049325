"""A new backend's distribution, made from templates."""

from forge3d_conformance.scaffold.scaffold import Scaffold

__all__ = ["Scaffold"]
