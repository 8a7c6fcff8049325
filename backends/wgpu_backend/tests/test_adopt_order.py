"""Work of the native device's owner and ours run in the order of the calls, on every adapter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from forge3d_core.driver import Fill
from forge3d_core.protocols import Device
from forge3d_wgpu.plugin import WgpuBackend

FRAMES, SIDE = 12, 512


@pytest.fixture(params=["adopted", "opened"])
def shared(request: Any, backend: WgpuBackend) -> Iterator[tuple[Device, Any]]:
    """A device whose native one has another user, who adopted it or asked for it."""
    import wgpu

    if request.param == "opened":
        with backend.open() as device:
            yield device, device.native
        return
    native = wgpu.gpu.enumerate_adapters_sync()[0].request_device_sync()
    with backend.adopt(native) as device:
        yield device, native


def test_each_read_sees_the_frame_written_before_it(shared: tuple[Device, Any]) -> None:
    import wgpu

    device, native = shared
    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
    raw = native.create_buffer(size=4 * SIDE * SIDE, usage=usage)
    buffer, texture = device.adopt(raw), device.create_texture(SIDE, SIDE)
    layout = {"bytes_per_row": 4 * SIDE, "rows_per_image": SIDE}
    with device.readback_pool(max_pending_ops=8, buffer_size=4 * SIDE * SIDE) as pool:
        reads = []
        for frame in range(FRAMES):
            image = np.full((SIDE, SIDE, 4), frame, np.uint8)
            native.queue.write_texture({"texture": texture.native}, image, layout, (SIDE, SIDE, 1))
            native.queue.write_buffer(raw, 0, image)
            reads.append((pool.read(texture), pool.read(buffer)))
        for frame, (image, linear) in enumerate(reads):
            assert (image.wait(60) == frame).all()
            assert (linear.wait(60) == frame).all()


def test_an_upload_lies_between_the_owners_writes(shared: tuple[Device, Any]) -> None:
    device, native = shared
    buffer, data = device.create_buffer(65536), np.arange(65536).astype(np.uint8)
    with device.staging_ring(ring_count=2, buffer_size=4096) as ring:
        for value in range(FRAMES):
            native.queue.write_buffer(buffer.native, 0, np.full(65536, value, np.uint8))
            ring.upload(data[:32768], buffer)
            native.queue.write_buffer(buffer.native, 0, np.full(4, 99, np.uint8))
            seen = np.frombuffer(native.queue.read_buffer(buffer.native), np.uint8)
            assert seen[:4].tolist() == [99] * 4
            assert (seen[4:32768] == data[4:32768]).all()
            assert (seen[32768:] == value).all()


def test_asking_for_the_native_device_waits_until_its_queue_has_all_that_was_submitted(rig: Any) -> None:
    memory = rig.buffer(64)
    tokens = [rig.submit(rig.long_work()), *(rig.submit(Fill(memory, 0, 64, value)) for value in (1, 2))]
    native = rig.driver.native
    assert all(token.launched for token in tokens)
    native.queue.write_buffer(memory.native, 0, np.full(64, 3, np.uint8))
    tokens.append(rig.submit(Fill(memory, 32, 32, 4)))
    assert tokens[-1].launched
    for token in tokens:
        rig.finish(token)
    assert rig.read(memory).tolist() == [3] * 32 + [4] * 32
