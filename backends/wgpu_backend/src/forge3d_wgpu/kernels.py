"""WGSL kernels: compiling, parameters, dispatch."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import wgpu

from forge3d_core.driver import Dispatch
from forge3d_core.errors import KernelError
from forge3d_core.protocols import KernelSource, Limits
from forge3d_core.units import align_up, format_bytes
from forge3d_wgpu.errors import NativeErrors
from forge3d_wgpu.workgroup import check_workgroup

LANGUAGE = "wgsl"

_PACKED = {"u4": "I", "i4": "i", "f4": "f"}
_STRUCT_ALIGNMENT = 16  # WGSL rounds the size of a uniform struct up to this
_OFFSET_ALIGNMENT = 256  # the most that any adapter asks of a uniform's offset
_ARENA_BYTES = 16 * 1024
MAX_PARAMS = _ARENA_BYTES // 4


@attrs.frozen(eq=False)
class Pipeline:
    """A compiled kernel: what ``Kernel.native`` is on this backend."""

    native: Any  # GPUComputePipeline
    layout: Any = attrs.field(repr=False)  # GPUBindGroupLayout
    source: KernelSource = attrs.field(repr=False)
    packing: str = attrs.field(repr=False)  # struct format of the parameters, empty without any

    def pack(self, params: Sequence[float]) -> bytes:
        packed = struct.pack(self.packing, *params)
        return packed.ljust(align_up(len(packed), _STRUCT_ALIGNMENT), b"\0")

    def release(self) -> None:
        self.native._release()
        self.layout._release()


def compile_source(device: Any, source: KernelSource) -> Pipeline:
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
                "buffer": {"type": "uniform"},
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
    packing = "<" + "".join(_PACKED[param.dtype] for param in source.params) if source.params else ""
    return Pipeline(native, layout, source, packing)


@attrs.define(eq=False)
class Arenas:
    """The uniform buffers of a device's dispatches, which serve again and again.

    They are small (16 KiB, 64 dispatches, each) and not in the budget.
    """

    device: Any
    _made: list[Any] = attrs.field(factory=list, init=False)
    _spare: list[Any] = attrs.field(factory=list, init=False)

    def take(self) -> Any:
        try:
            return self._spare.pop()
        except IndexError:
            usage = wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST
            self._made.append(self.device.create_buffer(size=_ARENA_BYTES, usage=usage))
            return self._made[-1]

    def give(self, arenas: Iterable[Any]) -> None:
        self._spare.extend(arenas)

    def release(self) -> None:
        """Give all of them back to the device, also those in flight."""
        for arena in self._made:
            arena._release()
        self._made.clear()
        self._spare.clear()


@attrs.define(eq=False)
class Params:
    """The parameters of one submission's dispatches, each in a place of its own in uniform buffers.

    They are borrowed until the token retires: nothing is allocated in the steady state.
    """

    arenas: Arenas
    _taken: list[tuple[Any, bytearray]] = attrs.field(factory=list, init=False)

    def place(self, packed: bytes) -> dict[str, Any]:
        """Return the binding under which a shader will find ``packed``."""
        if not self._taken or len(self._taken[-1][1]) + len(packed) > _ARENA_BYTES:
            self._taken.append((self.arenas.take(), bytearray()))
        buffer, data = self._taken[-1]
        offset = len(data)
        data += packed.ljust(align_up(len(packed), _OFFSET_ALIGNMENT), b"\0")
        return {"buffer": buffer, "offset": offset, "size": len(packed)}

    def upload(self) -> None:
        """Send all that was placed ahead of the next submission."""
        for buffer, data in self._taken:
            self.arenas.device.queue.write_buffer(buffer, 0, data)

    def recycle(self) -> None:
        self.arenas.give(buffer for buffer, _ in self._taken)
        self._taken.clear()


def check_dispatch(command: Dispatch, limits: Limits, most_bound: int) -> None:
    """Raise :class:`KernelError` for a dispatch that WebGPU does not allow."""
    source = command.kernel.native.source
    _check_aliases(source, command)
    for binding, memory in zip(source.bindings, command.buffers, strict=True):
        if memory.native.size > most_bound:
            raise KernelError(
                f"kernel {source.name!r}: {binding.name!r} is bound to {format_bytes(memory.native.size)}; "
                f"this adapter binds at most {format_bytes(most_bound)} (max-storage-buffer-binding-size), "
                "so split the data over several buffers"
            )
    groups = _groups(command)
    if any(n > most for n, most in zip(groups, limits.max_groups, strict=True)):
        raise KernelError(
            f"kernel {source.name!r}: {command.threads} threads in groups of {source.workgroup} are {groups} "
            f"groups; this adapter runs at most {limits.max_groups}: spread the threads over x, y and z"
        )


def dispatch(encoder: Any, command: Dispatch, params: Params) -> None:
    """Encode a dispatch that has been checked."""
    buffers = [
        {"buffer": memory.native, "offset": 0, "size": memory.native.size} for memory in command.buffers
    ]
    run(encoder, command.kernel.native, buffers, command.params, params, _groups(command))


def _groups(command: Dispatch) -> list[int]:
    per_group = command.kernel.native.source.workgroup
    return [math.ceil(n / size) for n, size in zip(command.threads, per_group, strict=True)]


def run(
    encoder: Any,
    pipeline: Pipeline,
    buffers: list[dict[str, Any]],
    values: Sequence[float],
    params: Params,
    groups: Sequence[int],
) -> None:
    """Encode one compute pass."""
    resources = [*buffers, params.place(pipeline.pack(values))] if pipeline.packing else buffers
    entries = [{"binding": index, "resource": resource} for index, resource in enumerate(resources)]
    group = params.arenas.device.create_bind_group(layout=pipeline.layout, entries=entries)
    encoding = encoder.begin_compute_pass()
    encoding.set_pipeline(pipeline.native)
    encoding.set_bind_group(0, group)
    encoding.dispatch_workgroups(*groups)
    encoding.end()


def _check_aliases(source: KernelSource, command: Dispatch) -> None:
    bound: dict[int, tuple[str, bool]] = {}
    for binding, memory in zip(source.bindings, command.buffers, strict=True):
        reads = binding.access == "read"
        name, read_before = bound.setdefault(id(memory.native), (binding.name, reads))
        if reads != read_before:
            raise KernelError(
                f"kernel {source.name!r}: one buffer is bound to {name!r} and to {binding.name!r}, and "
                "one of the two writes, which WebGPU forbids: use a second buffer, or make both 'readwrite'"
            )
