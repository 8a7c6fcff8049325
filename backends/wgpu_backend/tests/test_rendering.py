"""Real render pipelines: what they draw comes home, frame by frame, overlapped, and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from forge3d_core.errors import Closed, KernelError, UsageError
from forge3d_core.pipeline import AsyncReadbackContext, AsyncRenderer
from forge3d_core.protocols import AsyncReadbackConfig, Device
from forge3d_wgpu.plugin import WgpuBackend
from forge3d_wgpu.rendering import RenderPipeline, layout_of

GREY = """
@group(0) @binding(0) var<uniform> shade: vec4<f32>;
@vertex fn vs_main(@location(0) place: vec2<f32>) -> @builtin(position) vec4<f32> {
    return vec4(place, 0.5, 1.0);
}
@fragment fn fs_main() -> @location(0) vec4<f32> { return shade; }
"""

LAYERS = """
struct Corner { @builtin(position) place: vec4<f32>, @location(0) color: vec4<f32> }
@vertex fn vs_main(@location(0) place: vec3<f32>, @location(1) color: vec4<f32>) -> Corner {
    return Corner(vec4(place, 1.0), color);
}
@fragment fn fs_main(corner: Corner) -> @location(0) vec4<f32> { return corner.color; }
"""

EVERYWHERE = np.array([[-1, -1], [3, -1], [-1, 3]], np.float32)


@pytest.fixture
def device(backend: WgpuBackend) -> Iterator[Device]:
    with backend.open() as device:
        yield device


def shade(frame: int) -> bytes:
    return (np.full(4, frame, np.float32) / np.float32(255)).tobytes()


def test_the_triangle_is_the_one_that_kernels_draw(device: Device) -> None:
    with (
        RenderPipeline(device) as pipeline,
        AsyncRenderer(160, 96, device=device, draw=pipeline) as drawn,
        AsyncRenderer(160, 96, device=device) as computed,
    ):
        picture, other = drawn.render_triangle_rgba(), computed.render_triangle_rgba()
    assert picture.shape == other.shape == (96, 160, 4)
    both = (picture[..., 3] == 255) & (other[..., 3] == 255)
    assert both.sum() > 3000
    assert (picture[..., 3] != other[..., 3]).sum() <= 160  # along the edges
    assert np.abs(picture[both].astype(int) - other[both].astype(int)).max() <= 2


@pytest.mark.parametrize("pending", [1, 4])
def test_overlapped_frames_are_each_their_own(device: Device, pending: int) -> None:
    async def frames() -> list[Any]:
        config = AsyncReadbackConfig(max_pending_ops=pending)
        async with AsyncRenderer(33, 17, config, device=device, draw=pipeline) as renderer:
            handles = [asyncio.ensure_future(one(renderer)) for _ in range(24)]
            return await asyncio.gather(*handles)

    async def one(renderer: AsyncRenderer) -> Any:
        return await (await renderer.render_async()).wait()

    with RenderPipeline(device, GREY, EVERYWHERE, uniform=shade) as pipeline:
        pictures = asyncio.run(frames())
    assert all(picture.shape == (17, 33, 4) and (picture == picture[0, 0]).all() for picture in pictures)
    assert sorted(int(picture[0, 0, 0]) for picture in pictures) == list(range(24))


def test_part_of_a_frame_through_a_context(device: Device) -> None:
    async def part() -> Any:
        with AsyncRenderer(32, 16, device=device, draw=pipeline) as renderer:
            renderer.render_triangle_rgba()
            whole = renderer.render_triangle_rgba()
            async with AsyncReadbackContext(renderer) as manager:
                handle = await manager.readback_texture_async(32, 5)
                return whole, await handle.wait()

    with RenderPipeline(device, GREY, EVERYWHERE, uniform=shade) as pipeline:
        whole, upper = asyncio.run(part())
    assert (upper == whole[:5]).all()
    assert (upper == 1).all()


@pytest.mark.parametrize("depth", [False, True])
def test_nearer_triangles_hide_farther_ones_where_depth_is_wanted(device: Device, depth: bool) -> None:
    corners = np.zeros(6, [("place", "f4", 3), ("color", "f4", 4)])
    corners["place"][:, :2] = np.tile(EVERYWHERE, (2, 1))
    corners["place"][:, 2] = np.repeat([0.25, 0.75], 3)
    corners["color"] = np.repeat([[1, 0, 0, 1], [0, 0, 1, 1]], 3, axis=0)  # the near one is red, and first
    with (
        RenderPipeline(device, LAYERS, corners, depth=depth) as pipeline,
        AsyncRenderer(16, 16, device=device, draw=pipeline) as renderer,
    ):
        picture = renderer.render_triangle_rgba()
    assert (picture == ([255, 0, 0, 255] if depth else [0, 0, 255, 255])).all()


def test_what_it_takes_is_counted_and_given_back(device: Device) -> None:
    with RenderPipeline(device, GREY, EVERYWHERE, uniform=shade, depth=True) as pipeline:
        assert device.budget.metrics().device_local_bytes == EVERYWHERE.nbytes
        with AsyncRenderer(16, 16, device=device, draw=pipeline) as renderer:
            renderer.render_triangle_rgba()
            metrics = device.budget.metrics()
            assert metrics.texture_count == 5  # four targets and their one depth
            assert metrics.device_local_bytes == 5 * 16 * 16 * 4 + EVERYWHERE.nbytes + 16
    device.wait_idle()
    assert device.budget.metrics().device_local_bytes == 0


def test_wrong_use(device: Device) -> None:
    with pytest.raises(KernelError, match="nonsense"):
        RenderPipeline(device, GREY.replace("place: vec2", "place: nonsense"), EVERYWHERE)
    with pytest.raises(KernelError, match="fs_main"):
        RenderPipeline(device, GREY.replace("fs_main", "other"), EVERYWHERE, uniform=shade)
    for vertices in (0, -1, 2.5, np.zeros((0, 2))):
        with pytest.raises(UsageError):
            RenderPipeline(device, GREY, vertices, uniform=shade)
    with pytest.raises(UsageError, match="four parts"):
        RenderPipeline(device, clear=(0, 0, 0))
    pipeline = RenderPipeline(device, GREY, EVERYWHERE, uniform=lambda frame: bytes(16 * (frame + 1)))
    with AsyncRenderer(8, 8, device=device, draw=pipeline) as renderer:
        assert (renderer.render_triangle_rgba() == 0).all()
        with pytest.raises(UsageError, match="gave 32 bytes, and 16"):
            renderer.render_triangle_rgba()
        pipeline.close()
        pipeline.close()
        with pytest.raises(Closed):
            renderer.render_triangle_rgba()
    assert device.budget.metrics().device_local_bytes == 0
    with pytest.raises(UsageError, match="not 3"):
        AsyncRenderer(8, 8, device=device, draw=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["f8", "u1", [("a", "f4"), ("b", "u1", 3)], [("a", "u2"), ("b", "f4")]])
def test_vertices_that_webgpu_cannot_read(dtype: Any) -> None:
    with pytest.raises(UsageError, match="WebGPU"):
        layout_of(np.zeros((3, 3) if isinstance(dtype, str) else 3, dtype))
