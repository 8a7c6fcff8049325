"""A render pipeline of wgpu, which draws the frames of an ``AsyncRenderer``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import wgpu
from numpy.typing import ArrayLike, NDArray

from forge3d_core.errors import Closed, KernelError, UsageError
from forge3d_core.protocols import Device, Texture
from forge3d_wgpu.errors import NativeErrors

TRIANGLE = """
struct Corner { @builtin(position) place: vec4<f32>, @location(0) color: vec4<f32> }
@vertex fn vs_main(@builtin(vertex_index) n: u32) -> Corner {
    var places = array<vec2<f32>, 3>(vec2(0.0, 0.75), vec2(-0.75, -0.75), vec2(0.75, -0.75));
    var colors = array<vec3<f32>, 3>(vec3(1.0, 0.0, 0.0), vec3(0.0, 1.0, 0.0), vec3(0.0, 0.0, 1.0));
    return Corner(vec4(places[n], 0.5, 1.0), vec4(colors[n], 1.0));
}
@fragment fn fs_main(corner: Corner) -> @location(0) vec4<f32> { return corner.color; }
"""
"""The triangle that a renderer draws by default: as the kernels draw it, by a render pass."""

FORMAT = "rgba8unorm"
DEPTH_FORMAT = "depth32float"
_LETTERS = {"f": "float", "u": "uint", "i": "sint"}


class RenderPipeline:
    """Vertex and fragment shaders of wgpu, for ``AsyncRenderer(width, height, device=..., draw=...)``.

    ``wgsl`` has the entry points ``vs_main`` and ``fs_main``. ``vertices`` is how many there are, or an array
    of them: each field of a structured array, or each row of a plain one, is the attribute at the next
    location. ``uniform(frame)`` returns the bytes of ``@group(0) @binding(0) var<uniform>`` for a frame, as
    many each time. ``depth``: nearer fragments hide farther ones. ``clear`` is the color behind all, RGBA
    from 0 to 1. Targets are ``rgba8unorm``.

    It draws through the device's own queue, so frames, kernels and reads keep the order of the calls. Raises
    :class:`KernelError` with the compiler's lines, and :class:`UsageError` for a device that is not wgpu's,
    or is over OpenGL.

    Thread-safety: one thread at a time draws. Source: async readback guide, "AsyncRenderer"; WebGPU, 17.
    """

    def __init__(
        self,
        device: Device,
        wgsl: str = TRIANGLE,
        vertices: int | ArrayLike = 3,
        *,
        uniform: Callable[[int], Any] | None = None,
        depth: bool = False,
        clear: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    ) -> None:
        if device.info.caution:
            raise UsageError(f"{device!r} draws with kernels alone: {device.info.caution}")
        native: Any = device.native
        if not isinstance(native, wgpu.GPUDevice):
            raise UsageError(f"a RenderPipeline draws on a device of wgpu, not on {device!r}")
        self._device, self._native = device, native
        self._uniform, self._depth = uniform, depth
        self._clear = tuple(float(part) for part in clear)
        if len(self._clear) != 4:
            raise UsageError(f"clear is a color of four parts, RGBA, not {clear!r}")
        self._own = contextlib.ExitStack()
        self._depths: dict[tuple[int, int], Any] = {}
        self._vertices: Any = None
        self._group: Any = None
        self._block: Any = None  # what the uniform lies in
        self._closed = False
        try:
            attributes = self._load(vertices)
            self._compile(wgsl, attributes)
        except BaseException:
            self._own.close()
            raise

    def make_target(self, width: int, height: int) -> Texture:
        """Return a texture to draw to, counted by the device's budget."""
        self._check()
        if self._depth and (width, height) not in self._depths:
            plane = self._own.enter_context(self._device.create_texture(width, height, DEPTH_FORMAT))
            self._depths[width, height] = plane.native.create_view()
        return self._device.create_texture(width, height, FORMAT, label="target")

    def draw(self, target: Texture, frame: int) -> None:
        """Submit a render pass over ``target``, which :meth:`make_target` made."""
        self._check()
        with NativeErrors(f"drawing frame {frame}", UsageError):
            if self._uniform is not None:
                self._set(np.frombuffer(memoryview(self._uniform(frame)), np.uint8))
            color = {
                "view": target.native.create_view(),
                "load_op": "clear",
                "store_op": "store",
                "clear_value": self._clear,
            }
            encoder = self._native.create_command_encoder()
            passing = encoder.begin_render_pass(
                color_attachments=[color], depth_stencil_attachment=self._depth_of(target)
            )
            passing.set_pipeline(self._pipeline)
            if self._group is not None:
                passing.set_bind_group(0, self._group)
            if self._vertices is not None:
                passing.set_vertex_buffer(0, self._vertices)
            passing.draw(self._count)
            passing.end()
            self._native.queue.submit([encoder.finish()])

    def close(self) -> None:
        """Let go of the vertices and the depths; targets are their renderer's. Idempotent."""
        self._closed = True
        self._vertices = self._block = self._group = None
        self._depths.clear()
        self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<render pipeline of {self._count} vertices on {self._device!r}>"

    def _load(self, vertices: int | ArrayLike) -> list[dict[str, Any]]:
        """Put the vertices on the device, and return what the pipeline is told of them."""
        array = np.asarray(vertices)
        if array.ndim == 0 and array.dtype.kind not in "iu":
            raise UsageError(f"vertices is how many there are, or an array of them, not {vertices!r}")
        self._count = int(array) if array.ndim == 0 else len(array)
        if self._count < 1:
            raise UsageError(f"a render pipeline draws at least one vertex, not {self._count}")
        if array.ndim == 0:
            return []
        if array.dtype.names is None:
            array = array.astype(np.float32)
        array = np.ascontiguousarray(array)
        described = layout_of(array)
        self._reserve(array.nbytes)
        with NativeErrors("loading vertices", UsageError):
            self._vertices = self._native.create_buffer_with_data(
                data=array.view(np.uint8).reshape(-1), usage=wgpu.BufferUsage.VERTEX
            )
        return [described]

    def _reserve(self, nbytes: int) -> None:
        """Count memory of the pipeline's own until it closes."""
        self._own.callback(self._device.budget.reserve(nbytes, heap="device_local").release)

    def _compile(self, wgsl: str, buffers: list[dict[str, Any]]) -> None:
        groups = []
        native = self._native
        with NativeErrors("compiling a render pipeline", KernelError):
            module = native.create_shader_module(code=wgsl)
            if self._uniform is not None:
                visible = wgpu.ShaderStage.VERTEX | wgpu.ShaderStage.FRAGMENT
                entry = {"binding": 0, "visibility": visible, "buffer": {"type": "uniform"}}
                groups.append(native.create_bind_group_layout(entries=[entry]))
            self._groups = groups
            self._pipeline = native.create_render_pipeline(
                layout=native.create_pipeline_layout(bind_group_layouts=groups),
                vertex={"module": module, "entry_point": "vs_main", "buffers": buffers},
                primitive={"topology": "triangle-list"},
                depth_stencil={
                    "format": DEPTH_FORMAT,
                    "depth_write_enabled": True,
                    "depth_compare": "less",
                }
                if self._depth
                else None,
                fragment={"module": module, "entry_point": "fs_main", "targets": [{"format": FORMAT}]},
            )

    def _set(self, data: NDArray[np.uint8]) -> None:
        """Give the next frame its uniform; the queue keeps that of frames before."""
        if self._block is None:
            usage = wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST
            self._reserve(data.nbytes)
            self._block = self._native.create_buffer(size=data.nbytes, usage=usage)
            entry = {"binding": 0, "resource": {"buffer": self._block}}
            self._group = self._native.create_bind_group(layout=self._groups[0], entries=[entry])
        if data.nbytes != self._block.size:
            raise UsageError(
                f"uniform() gave {data.nbytes} bytes, and {self._block.size} for the first frame"
            )
        self._native.queue.write_buffer(self._block, 0, data)

    def _depth_of(self, target: Texture) -> dict[str, Any] | None:
        if not self._depth:
            return None
        view = self._depths[target.width, target.height]
        return {
            "view": view,
            "depth_clear_value": 1.0,
            "depth_load_op": "clear",
            "depth_store_op": "discard",
        }

    def _check(self) -> None:
        if self._closed:
            raise Closed("this render pipeline was closed; make another")


def layout_of(array: NDArray[Any]) -> dict[str, Any]:
    """Return the vertex buffer layout of an array: an attribute for each field, or for each row."""
    fields = (
        [(array.dtype[name], array.dtype.fields[name][1]) for name in array.dtype.names]
        if array.dtype.fields is not None and array.dtype.names is not None
        else [(np.dtype((array.dtype, array.shape[1:])), 0)]
    )
    attributes = []
    for location, (dtype, offset) in enumerate(fields):
        base, parts = dtype.base, int(np.prod(dtype.shape, dtype=np.int64))
        name = f"{_LETTERS.get(base.kind, base.kind)}{8 * base.itemsize}" + (f"x{parts}" if parts > 1 else "")
        if name not in set(wgpu.VertexFormat) or offset % min(4, base.itemsize * parts):
            raise UsageError(
                f"the vertex attribute at location {location} is {dtype}, at byte {offset}; WebGPU has "
                "float32, uint32 and sint32 of one to four parts, and narrower ones, each at a whole word"
            )
        attributes.append({"format": name, "offset": offset, "shader_location": location})
    stride = array.dtype.itemsize if array.dtype.names is not None else array.strides[0]
    if stride % 4:
        raise UsageError(f"a vertex has {stride} bytes; WebGPU wants a multiple of 4")
    return {"array_stride": stride, "step_mode": "vertex", "attributes": attributes}
