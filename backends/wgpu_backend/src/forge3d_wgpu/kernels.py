"""WGSL kernels: compiling, and the packing of their parameters."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import attrs
import wgpu

from forge3d_core.errors import KernelError
from forge3d_core.protocols import KernelSource
from forge3d_core.units import align_up
from forge3d_wgpu.errors import NativeErrors
from forge3d_wgpu.native import CALLS
from forge3d_wgpu.params import ARENA_BYTES
from forge3d_wgpu.workgroup import check_workgroup

LANGUAGE = "wgsl"

_PACKED = {"u4": "I", "i4": "i", "f4": "f"}
_STRUCT_ALIGNMENT = 16  # WGSL rounds the size of a uniform struct up to this
MAX_PARAMS = ARENA_BYTES // 4


@attrs.frozen(eq=False)
class CompiledKernel:
    """A loaded kernel and what a dispatch needs to know of it."""

    native: Any  # GPUComputePipeline
    layout: Any = attrs.field(repr=False)  # GPUBindGroupLayout
    source: KernelSource = attrs.field(repr=False)
    workgroup: tuple[int, int, int]
    max_groups: int = attrs.field(repr=False)  # in each dimension
    pack: Callable[..., bytes] | None = attrs.field(repr=False)  # the parameters, padded; None without any
    pipeline: Any = attrs.field(repr=False)  # what a compute pass is told of it

    def grid(self, threads: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the workgroups of a dispatch; :class:`KernelError` for more than the adapter runs."""
        (x, y, z), (across, down, deep) = threads, self.workgroup
        grid = -(-x // across), -(-y // down), -(-z // deep)
        if max(grid) > self.max_groups:
            raise KernelError(
                f"kernel {self.source.name!r}: {threads} threads in groups of {self.workgroup} are {grid} "
                f"groups; this adapter runs at most {(self.max_groups,) * 3}: spread the threads over x, y "
                "and z"
            )
        return grid

    def release(self) -> None:
        self.native._release()
        self.layout._release()


def compile_source(device: Any, source: KernelSource) -> CompiledKernel:
    """Compile WGSL; raises :class:`KernelError` with the compiler's lines, which say where.

    The layout follows the source's declared bindings rather than the shader's use of them, so a
    buffer that a shader happens to ignore is still bound, and a write to a buffer that is declared
    read-only is an error here.
    """
    code = source.sources.get(LANGUAGE)
    if not isinstance(code, str):
        raise KernelError(
            f"kernel {source.name!r} has sources for {', '.join(source.sources) or 'nothing'}; this device "
            f"speaks {LANGUAGE}: add a 'wgsl' source, as text"
        )
    if code.lstrip().startswith("#version"):  # which wgpu-py would take for GLSL, and miss a stage
        raise KernelError(
            f"the source of kernel {source.name!r} is GLSL; this device speaks {LANGUAGE} alone"
        )
    if len(source.params) > MAX_PARAMS:
        raise KernelError(f"kernel {source.name!r} has {len(source.params)} params, the most is {MAX_PARAMS}")
    entries = [
        {
            "binding": index,
            "visibility": wgpu.ShaderStage.COMPUTE,
            "buffer": {"type": "read-only-storage" if binding.access == "read" else "storage"},
        }
        for index, binding in enumerate(source.bindings)
    ]
    if source.params:
        entries.append(
            {
                "binding": len(source.bindings),
                "visibility": wgpu.ShaderStage.COMPUTE,
                "buffer": {"type": "uniform", "has_dynamic_offset": True},
            }
        )
    with NativeErrors(f"compiling kernel {source.name!r} as WGSL", KernelError):
        module = device.create_shader_module(label=source.name, code=code)
        layout = device.create_bind_group_layout(entries=entries)
        native = device.create_compute_pipeline(
            label=source.name,
            layout=device.create_pipeline_layout(bind_group_layouts=[layout]),
            compute={"module": module, "entry_point": source.name},
        )
    check_workgroup(device, source, code)
    packing = "<" + "".join(_PACKED[param.dtype] for param in source.params)
    packed = struct.calcsize(packing)
    padded = struct.Struct(f"{packing}{align_up(packed, _STRUCT_ALIGNMENT) - packed}x")
    return CompiledKernel(
        native=native,
        layout=layout,
        source=source,
        workgroup=source.workgroup,
        max_groups=device.limits["max-compute-workgroups-per-dimension"],
        pack=padded.pack if packed else None,
        pipeline=CALLS.pipeline(native),
    )
