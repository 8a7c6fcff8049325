"""The nouns, as protocols: what users call and the conformance suite checks.

Any object that has these methods and keeps their contracts will do; nothing need be inherited.
"""

from forge3d_core.protocols.backend import ApiRange, ApiVersion, Backend
from forge3d_core.protocols.budget import BudgetMetrics, BudgetTracker, Heap, MemoryKind, Reservation
from forge3d_core.protocols.device import (
    LANE_ROLES,
    AsyncDevice,
    Device,
    DeviceInfo,
    DeviceKind,
    DeviceOptions,
    HostArrayDevice,
    Lane,
    Limits,
)
from forge3d_core.protocols.fence import FencePoint, Timeline
from forge3d_core.protocols.kernel import (
    Access,
    Binding,
    ClosableKernel,
    CommandList,
    Kernel,
    KernelSource,
    Param,
)
from forge3d_core.protocols.memory import (
    Buffer,
    Origin,
    RecyclableBuffer,
    ShapedTexture,
    Texture,
    TextureExtent,
    TextureFormat,
)
from forge3d_core.protocols.pool import (
    AsyncReadbackConfig,
    Backpressure,
    ConcurrencyMove,
    MoveReason,
    PoolOptions,
    ReadbackStats,
)
from forge3d_core.protocols.readback import (
    BatchingPool,
    Lease,
    ReadArguments,
    ReadbackHandle,
    ReadbackPool,
    ReadbackStream,
    ReadRegion,
    ReadRequest,
    WantedRead,
)
from forge3d_core.protocols.ring import (
    AsyncRing,
    BatchingRing,
    RingStats,
    StagingRing,
    StagingSlice,
    WantedUpload,
)
from forge3d_core.protocols.textures import TextureDevice

__all__ = [
    "LANE_ROLES",
    "Access",
    "ApiRange",
    "ApiVersion",
    "AsyncDevice",
    "AsyncReadbackConfig",
    "AsyncRing",
    "Backend",
    "Backpressure",
    "BatchingPool",
    "BatchingRing",
    "Binding",
    "BudgetMetrics",
    "BudgetTracker",
    "Buffer",
    "ClosableKernel",
    "CommandList",
    "ConcurrencyMove",
    "Device",
    "DeviceInfo",
    "DeviceKind",
    "DeviceOptions",
    "FencePoint",
    "Heap",
    "HostArrayDevice",
    "Kernel",
    "KernelSource",
    "Lane",
    "Lease",
    "Limits",
    "MemoryKind",
    "MoveReason",
    "Origin",
    "Param",
    "PoolOptions",
    "ReadArguments",
    "ReadRegion",
    "ReadRequest",
    "ReadbackHandle",
    "ReadbackPool",
    "ReadbackStats",
    "ReadbackStream",
    "RecyclableBuffer",
    "Reservation",
    "RingStats",
    "ShapedTexture",
    "StagingRing",
    "StagingSlice",
    "Texture",
    "TextureDevice",
    "TextureExtent",
    "TextureFormat",
    "Timeline",
    "WantedRead",
    "WantedUpload",
]
