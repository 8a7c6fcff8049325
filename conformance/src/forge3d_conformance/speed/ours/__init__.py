"""What is measured: forge3d's operations, through the protocols, with default settings."""

from forge3d_conformance.speed.ours.ours import Ours

__all__ = ["Ours"]
