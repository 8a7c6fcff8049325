"""Systems above the primitives: frames that overlap, operations with dependencies, stages that repeat.

All of it is written over :mod:`forge3d_core.protocols` alone, so it runs on any backend.
"""

from forge3d_core.pipeline.context import ManagedGpuContext, StepConfig, StepTelemetry
from forge3d_core.pipeline.coordinator import AsyncCoordinator
from forge3d_core.pipeline.manager import PipelineStageManager, PipelineStats
from forge3d_core.pipeline.monitor import AsyncPerformanceMonitor, OperationMetrics
from forge3d_core.pipeline.operations import Completion
from forge3d_core.pipeline.stages import GpuPipelineStage, LaunchConfig
from forge3d_core.pipeline.stream import FrameStream, stream
from forge3d_core.pipeline.triple_buffer import BufferState, TripleBuffer, TripleSlot

__all__ = [
    "AsyncCoordinator",
    "AsyncPerformanceMonitor",
    "BufferState",
    "Completion",
    "FrameStream",
    "GpuPipelineStage",
    "LaunchConfig",
    "ManagedGpuContext",
    "OperationMetrics",
    "PipelineStageManager",
    "PipelineStats",
    "StepConfig",
    "StepTelemetry",
    "TripleBuffer",
    "TripleSlot",
    "stream",
]
