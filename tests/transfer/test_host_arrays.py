"""Arrays in host-visible memory: no copy to the device, and no byte lost, whatever becomes of them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core import HostArrayDevice
from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import BudgetError, Closed, UsageError

SHAPE = (300, 512)  # 600 KiB of float32
ALIGNED = "?pitch=256&align=4"


def values(seed: int = 1) -> Any:
    return np.random.default_rng(seed).random(SHAPE, np.float32)


def test_it_is_zeroed_and_in_the_budget_until_it_is_gone(device: AssembledDevice) -> None:
    assert isinstance(device, HostArrayDevice)
    array = device.host_array(SHAPE, "f4")
    assert (array.shape, array.dtype, array.flags.writeable) == (SHAPE, np.float32, True)
    assert not array.any()
    assert device.budget.metrics().host_visible_bytes == array.nbytes
    part = array[7:9].view(np.uint8)
    del array
    assert device.budget.metrics().host_visible_bytes > 0
    alias = memoryview(part)
    del part
    assert device.budget.metrics().host_visible_bytes > 0
    del alias
    gc.collect()
    assert device.budget.metrics().host_visible_bytes == 0


def test_an_upload_of_it_is_one_copy_of_the_devices(device: AssembledDevice) -> None:
    array, buffer = device.host_array(SHAPE, "f4"), device.create_buffer(values().nbytes + 100)
    array[:] = values()
    with device.staging_ring() as ring:
        ring.upload(array, buffer, 3).wait(20)
        assert np.asarray(buffer.native)[3 : 3 + array.nbytes].tobytes() == values().tobytes()
        assert ring.stats().allocations == 0
        assert ring.stats().bytes_staged == array.nbytes
        ring.upload(array[100:], buffer).wait(20)
        assert np.asarray(buffer.native)[: array[100:].nbytes].tobytes() == values()[100:].tobytes()
        with device.native.hold("upload"):  # no copy was made: what is written meanwhile arrives
            ring.upload(array, buffer)
            array[:] = 0
        device.wait_idle(20)
        assert not np.asarray(buffer.native)[: array.nbytes].any()


def test_a_strided_part_is_copied(device: AssembledDevice) -> None:
    array = device.host_array(SHAPE, "f4")
    array[:] = values()
    part = array[::-1, ::2]
    buffer = device.create_buffer(part.nbytes)
    with device.staging_ring() as ring:
        ring.upload(part, buffer).wait(20)
    assert np.asarray(buffer.native).tobytes() == values()[::-1, ::2].tobytes()


@pytest.mark.parametrize("selector", ["", ALIGNED])
@pytest.mark.parametrize("width", [512, 511])
def test_texels_and_bytes_there_and_back(
    open_device: Callable[..., AssembledDevice], selector: str, width: int
) -> None:
    device = open_device(selector)
    there, back = device.host_array((300, width), "f4"), device.host_array((300, width), "f4")
    there[:] = values()[:, :width]
    texture, buffer = device.create_texture(width, 300, "r32float"), device.create_buffer(there.nbytes + 8)
    with device.staging_ring() as ring, device.readback_pool() as pool:
        ring.upload(there, texture)
        assert pool.read(texture, out=back).wait(20) is back
        assert (back == there).all()
        for offset in (0, 3, 8):
            back[:] = 0
            ring.upload(there, buffer, offset)
            pool.read(buffer, offset=offset, nbytes=there.nbytes, out=back).wait(20)
            assert (back == there).all()
            some = back[10:20]
            some[:] = 0
            pool.read(buffer, offset=offset + there[10].nbytes * 0, nbytes=some.nbytes, out=some).wait(20)
            assert (some == there[:10]).all()
            assert (back[20:] == there[20:]).all()
            assert (back[:10] == there[:10]).all()


def test_a_read_into_it_takes_no_block(device: AssembledDevice) -> None:
    array, buffer = device.host_array(SHAPE, "f4"), device.create_buffer(values().nbytes)
    np.asarray(buffer.native)[:] = values().reshape(-1).view(np.uint8)
    with device.readback_pool(buffer_size=64, pre_allocate=False) as pool:
        handle = pool.read(buffer, out=array)
        assert handle.wait(20) is array
        assert (array == values()).all()
        assert device.budget.metrics().host_visible_bytes <= array.nbytes + 4096
        with pool.read(buffer, out=array).lease(20) as shown:
            assert (shown.reshape(SHAPE) == values()).all()
        handles = pool.read_many([(buffer, {"out": array}), buffer])
        assert handles[1].wait(20).tobytes() == handles[0].wait(20).tobytes() == values().tobytes()


def test_reads_and_uploads_of_one_array_keep_their_order(device: AssembledDevice) -> None:
    array = device.host_array(SHAPE, "f4")
    first, second = device.create_buffer(array.nbytes), device.create_buffer(array.nbytes)
    np.asarray(first.native)[:] = values().reshape(-1).view(np.uint8)
    with device.staging_ring() as ring, device.readback_pool() as pool:
        with device.native.hold("download"):
            handle = pool.read(first, out=array)
            uploaded = ring.upload(array, second)
            assert not uploaded.done
        uploaded.wait(20)
        handle.wait(20)
    assert np.asarray(second.native).tobytes() == values().tobytes()


def test_dropped_in_flight_it_stays_until_the_device_is_done(device: AssembledDevice) -> None:
    array, buffer = device.host_array(SHAPE, "f4"), device.create_buffer(values().nbytes)
    array[:] = values()
    with device.staging_ring() as ring:
        with device.native.hold("upload"):
            point = ring.upload(array, buffer)
            nbytes = array.nbytes
            del array
            gc.collect()
            assert device.budget.metrics().host_visible_bytes >= nbytes
            device.host_array(SHAPE, "f4")[:] = 7  # elsewhere
        point.wait(20)
    assert np.asarray(buffer.native).tobytes() == values().tobytes()


def test_it_outlives_its_device(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device()
    array = device.host_array(SHAPE, "f4")
    array[:] = values()
    with pytest.warns(ResourceWarning, match="numpy arrays still show"):
        device.close()
    assert (array == values()).all()
    with pytest.raises(Closed):
        device.host_array(4)


def test_what_is_refused(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device(budget=4096)
    with pytest.raises(BudgetError):
        device.host_array(5000)
    for shape, dtype in ((-1, "u1"), (3, object), ("3", "u1")):
        with pytest.raises(UsageError):
            device.host_array(shape, dtype)  # type: ignore[arg-type]
    assert device.host_array((0, 3)).shape == (0, 3)
    assert device.budget.metrics().host_visible_bytes == 0


def test_an_array_of_another_device_is_an_array(open_device: Callable[..., AssembledDevice]) -> None:
    one, other = open_device(), open_device()
    array, buffer = one.host_array(SHAPE, "f4"), other.create_buffer(values().nbytes)
    array[:] = values()
    with other.staging_ring() as ring:
        ring.upload(array, buffer).wait(20)
    assert np.asarray(buffer.native).tobytes() == values().tobytes()
