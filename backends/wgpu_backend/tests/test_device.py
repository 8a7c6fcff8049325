"""The assembled device on a real adapter, end to end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from forge3d_core.errors import DeviceLost, ForeignObject, UsageError
from forge3d_core.protocols import Binding, Device, KernelSource, Param
from forge3d_wgpu.plugin import WgpuBackend

SQUARE = """
struct Params { count: u32, factor: f32 }
@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;
@compute @workgroup_size(64)
fn square(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < p.count) { result[id.x] = source[id.x] * source[id.x] * p.factor; }
}
"""
SOURCE = KernelSource(
    "square",
    {"wgsl": SQUARE},
    (Binding("source", "read", "f4"), Binding("result", "write", "f4")),
    (Param("count"), Param("factor", "f4")),
)


@pytest.fixture
def device(backend: WgpuBackend) -> Iterator[Device]:
    with backend.open() as device:
        yield device


def test_up_through_a_kernel_and_back(device: Device) -> None:
    count = 50_001
    data = np.random.default_rng(3).random(count, dtype=np.float32)
    source, result = device.create_buffer(4 * count), device.create_buffer(4 * count)
    kernel = device.create_kernel(SOURCE)
    with device.staging_ring(ring_count=2, buffer_size="16 KiB") as ring, device.readback_pool() as pool:
        staged = ring.upload(data, source)
        commands = device.command_list().dispatch(kernel, [source, result], [count, 2.0], threads=count)
        device.submit(commands, after=[staged])
        np.testing.assert_array_equal(
            pool.read(result, dtype="f4").wait(60), data * data * np.float32(2), strict=True
        )


@pytest.mark.parametrize("offset", [0, 1, 3, 64])
@pytest.mark.parametrize("nbytes", [1, 5, 70_001])
def test_any_size_at_any_offset(device: Device, offset: int, nbytes: int) -> None:
    data = np.random.default_rng(nbytes).integers(0, 256, nbytes, dtype=np.uint8)
    with device.create_buffer(70_100) as buffer, device.staging_ring(buffer_size=4096) as ring:
        ring.upload(data, buffer, offset)
        with device.readback_pool(max_pending_ops=2) as pool:
            np.testing.assert_array_equal(pool.read(buffer, offset=offset, nbytes=nbytes).wait(60), data)


def test_a_texture_of_unaligned_rows(device: Device) -> None:
    image = np.random.default_rng(4).integers(0, 256, (37, 61, 4), dtype=np.uint8)
    with device.create_texture(61, 37) as texture, device.staging_ring(buffer_size=4096) as ring:
        ring.upload(image, texture)
        with device.readback_pool() as pool:
            np.testing.assert_array_equal(pool.read(texture).wait(60), image)
            part = pool.read(texture, origin=(3, 5), size=(7, 2)).wait(60)
            np.testing.assert_array_equal(part, image[5:7, 3:10])


def test_an_adopted_device_stays_open(backend: WgpuBackend) -> None:
    import wgpu

    native = wgpu.gpu.enumerate_adapters_sync()[0].request_device_sync()
    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
    theirs = native.create_buffer_with_data(data=np.arange(16, dtype=np.uint8), usage=usage)
    with backend.adopt(native) as device:
        assert device.native is native
        buffer = device.adopt(theirs)
        assert buffer.native is theirs
        device.submit(device.command_list().fill(buffer, 9, offset=3, nbytes=2)).wait(60)
        mine = device.create_buffer(64)
    expected = np.arange(16, dtype=np.uint8)
    expected[3:5] = 9
    np.testing.assert_array_equal(np.frombuffer(native.queue.read_buffer(theirs), np.uint8), expected)
    assert mine.native._internal is None  # ours has been given back
    native.destroy()


def test_a_device_destroyed_by_its_owner_is_lost(backend: WgpuBackend) -> None:
    import wgpu

    native = wgpu.gpu.enumerate_adapters_sync()[0].request_device_sync()
    with backend.adopt(native) as device:
        buffer = device.create_buffer(64)
        native.destroy()
        with pytest.raises(DeviceLost):
            device.submit(device.command_list().fill(buffer, 1)).wait(60)


def test_what_belongs_elsewhere_is_refused(device: Device, backend: WgpuBackend) -> None:
    with backend.open() as other:
        foreign = other.create_buffer(64)
        with pytest.raises(ForeignObject):
            device.command_list().fill(foreign, 1)
        with pytest.raises(UsageError, match="another wgpu device"):
            device.adopt(foreign.native)
