"""Pools of device memory: buffers that a program takes and gives back often, without a call of the driver.

All of it is written over :mod:`forge3d_core.protocols` alone, so it runs on any backend.
"""

from forge3d_core.pooling.lease import PooledBuffer
from forge3d_core.pooling.pool import BufferPool
from forge3d_core.pooling.size_classes import capacity_of
from forge3d_core.pooling.stats import BufferPoolStats

__all__ = ["BufferPool", "BufferPoolStats", "PooledBuffer", "capacity_of"]
