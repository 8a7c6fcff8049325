"""The command line, ``forge3d``."""

from forge3d_core.cli.app import app, main

__all__ = ["app", "main"]
