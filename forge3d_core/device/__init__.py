"""The assembled device: the shared algorithms over one driver."""

from forge3d_core.device.device import AssembledDevice, assemble

__all__ = ["AssembledDevice", "assemble"]
