"""Several devices: which one is least loaded, and a batch that goes over all of them.

All of it is written over :mod:`forge3d_core.protocols` alone, so it runs on any backends, and on several.
"""

from forge3d_core.placement.fleet import Fleet
from forge3d_core.placement.load import DeviceLoad, load_of

__all__ = ["DeviceLoad", "Fleet", "load_of"]
