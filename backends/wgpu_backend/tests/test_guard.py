"""What the owner destroys natively is a typed error on every thread, never the end of the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from forge3d_core.driver import Copy, Dispatch, Fill
from forge3d_core.errors import DeviceLost, UsageError
from forge3d_core.formats import texture_format
from forge3d_core.protocols import Binding, Device
from forge3d_wgpu.plugin import WgpuBackend

DOUBLE = """
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@compute @workgroup_size(64)
fn double(@builtin(global_invocation_id) id: vec3<u32>) { data[id.x] = data[id.x] * 2u; }
"""


@pytest.fixture
def device(backend: WgpuBackend) -> Iterator[Device]:
    with backend.open() as device:
        yield device


def usage() -> int:
    import wgpu

    return int(wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST)


@pytest.mark.parametrize("threads", [1, 6])
def test_a_loss_beside_submissions_is_device_lost_on_every_thread(device: Device, threads: int) -> None:
    data, begun, told = np.ones(4096, np.uint8), threading.Semaphore(0), []

    def work() -> None:
        try:
            target, ring = device.create_buffer(4096), device.staging_ring()
            for turn in range(1_000_000):
                ring.upload(data, target)
                if turn == 3:
                    begun.release()
        except BaseException as error:
            told.append(type(error))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    native = device.native
    for worker in workers:
        worker.start()
    for _ in workers:
        begun.acquire(timeout=60.0)
    native.destroy()
    for worker in workers:
        worker.join(60.0)
    assert told == [DeviceLost] * threads


def test_memory_that_is_shown_outlives_the_device(device: Device) -> None:
    with device.staging_ring(ring_count=1, buffer_size="1 MiB") as ring:
        piece = ring.reserve(2**20)
        device.native.destroy()
        piece.view[:] = 7
        assert piece.view.min() == 7
        with pytest.raises(DeviceLost):
            piece.commit(device.create_buffer(2**20))


def test_a_device_is_destroyed_once_the_last_forge3d_device_over_it_has_closed(backend: WgpuBackend) -> None:
    import wgpu

    native = wgpu.gpu.enumerate_adapters_sync()[0].request_device_sync()
    one, other = backend.adopt(native), backend.adopt(native)
    native.destroy()
    for adopted in (one, other):
        with pytest.raises(DeviceLost):
            adopted.create_buffer(4)
        native.create_buffer(size=16, usage=usage())  # still there
        adopted.close()
    with pytest.raises(wgpu.GPUError):
        native.create_buffer(size=16, usage=usage())


USES: dict[str, Callable[[Any, Any], Any]] = {
    "fill": lambda _rig, memory: Fill(memory, 0, 64, 1),
    "clear": lambda _rig, memory: Fill(memory, 0, 64, 0),
    "copy from": lambda rig, memory: Copy(memory, 0, rig.buffer(64), 0, 64),
    "copy to": lambda rig, memory: Copy(rig.buffer(64), 0, memory, 0, 64),
    "dispatch": lambda rig, memory: Dispatch(
        rig.kernel("double", DOUBLE, Binding("data", "readwrite", "u4")), (memory,), (), (16, 1, 1)
    ),
}


@pytest.mark.parametrize("owner", ["the caller", "forge3d"])
@pytest.mark.parametrize("use", USES)
def test_a_destroyed_buffer_is_refused_and_the_lane_works_on(rig: Any, use: str, owner: str) -> None:
    memory, other = rig.buffer(64), rig.buffer(64)
    if owner == "the caller":
        native = rig.driver.native.create_buffer(size=64, usage=usage())
        memory = type(memory)(rig.driver.adopt(native)[0], 64)
    command = USES[use](rig, memory)
    rig.run(command)
    memory.native.destroy()
    with pytest.raises(UsageError, match="destroyed"):
        rig.submit(command)
    rig.run(Fill(other, 0, 64, 5))
    assert rig.read(other).tolist() == [5] * 64


def test_a_destroyed_texture_is_refused(device: Device) -> None:
    texture, buffer = device.create_texture(8, 8), device.create_buffer(64)
    texture.native.destroy()
    with device.readback_pool() as pool:
        with pytest.raises(UsageError, match="destroyed"):
            pool.read(texture)
        assert not pool.read(buffer).wait(60).any()


def test_a_buffer_that_was_destroyed_before_is_not_adopted(rig: Any) -> None:
    native = rig.driver.native.create_buffer(size=64, usage=usage())
    native.destroy()
    with pytest.raises(UsageError, match="destroyed"):
        rig.driver.adopt(native)


def test_a_buffer_that_its_owner_has_mapped_is_refused_until_it_is_unmapped(backend: WgpuBackend) -> None:
    import wgpu

    adapter = wgpu.gpu.enumerate_adapters_sync()[0]
    if "mappable-primary-buffers" not in adapter.features:
        pytest.skip("this adapter maps no buffers that kernels use")
    native = adapter.request_device_sync(required_features=["mappable-primary-buffers"])
    mine = native.create_buffer(size=64, usage=usage() | wgpu.BufferUsage.MAP_READ)
    with backend.adopt(native) as device:
        buffer = device.adopt(mine)
        device.submit(device.command_list().fill(buffer, 7)).wait(60)
        mine.map_sync(wgpu.MapMode.READ)
        with pytest.raises(UsageError, match="unmap it first"):
            device.submit(device.command_list().fill(buffer, 8))
        assert bytes(mine.read_mapped()) == bytes([7] * 64)
        mine.unmap()
        device.submit(device.command_list().fill(buffer, 8)).wait(60)
        with device.readback_pool() as pool:
            assert (pool.read(buffer).wait(60) == 8).all()
    native.destroy()


def test_memory_destroyed_while_work_uses_it_goes_when_the_work_has_ended(rig: Any) -> None:
    work = rig.long_work()
    token = rig.submit(work)
    work.buffers[0].native.destroy()
    rig.finish(token)


def test_destroying_while_a_submission_is_under_way_waits_for_nothing(rig: Any) -> None:
    """A finalizer or a signal handler may call it in the middle of our own calls."""
    image = rig.image(8, 8, texture_format("rgba8unorm"))
    with rig.driver._guard.lock:
        image.native.destroy()
    assert rig.driver._guard.tampered
    rig.run(Fill(rig.buffer(64), 0, 64, 1))
    assert not rig.driver._guard.doomed
