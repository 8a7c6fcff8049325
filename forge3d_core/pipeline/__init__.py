"""Systems above the primitives: frames that overlap, operations with dependencies, stages that repeat.

All of it is written over :mod:`forge3d_core.protocols` alone, so it runs on any backend.
"""

from forge3d_core.pipeline.context import ManagedGpuContext, StepConfig, StepTelemetry
from forge3d_core.pipeline.coordinator import AsyncCoordinator
from forge3d_core.pipeline.manager import PipelineStageManager, PipelineStats
from forge3d_core.pipeline.monitor import AsyncPerformanceMonitor, OperationMetrics
from forge3d_core.pipeline.operations import Completion
from forge3d_core.pipeline.pictures import RenderHandle
from forge3d_core.pipeline.prepass import AsyncComputePrepass, EarlyZResult, PrepassResult, PrepassStats
from forge3d_core.pipeline.recording import analyze_threading_performance, record_on_threads
from forge3d_core.pipeline.renderer import (
    AsyncReadbackContext,
    AsyncReadbackManager,
    AsyncRenderer,
    benchmark_readback_performance,
)
from forge3d_core.pipeline.resources import (
    AsyncOperation,
    AsyncResourceManager,
    create_batch_rendering_pipeline,
)
from forge3d_core.pipeline.scene import SceneObject
from forge3d_core.pipeline.stages import GpuPipelineStage, LaunchConfig
from forge3d_core.pipeline.stream import FrameStream, stream
from forge3d_core.pipeline.textures import AsyncTextureUploader, UploadReport
from forge3d_core.pipeline.triple_buffer import BufferState, TripleBuffer, TripleSlot

__all__ = [
    "AsyncComputePrepass",
    "AsyncCoordinator",
    "AsyncOperation",
    "AsyncPerformanceMonitor",
    "AsyncReadbackContext",
    "AsyncReadbackManager",
    "AsyncRenderer",
    "AsyncResourceManager",
    "AsyncTextureUploader",
    "BufferState",
    "Completion",
    "EarlyZResult",
    "FrameStream",
    "GpuPipelineStage",
    "LaunchConfig",
    "ManagedGpuContext",
    "OperationMetrics",
    "PipelineStageManager",
    "PipelineStats",
    "PrepassResult",
    "PrepassStats",
    "RenderHandle",
    "SceneObject",
    "StepConfig",
    "StepTelemetry",
    "TripleBuffer",
    "TripleSlot",
    "UploadReport",
    "analyze_threading_performance",
    "benchmark_readback_performance",
    "create_batch_rendering_pipeline",
    "record_on_threads",
    "stream",
]
