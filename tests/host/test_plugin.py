"""The host backend end to end: plugin, driver and the core's algorithms over it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from forge3d_core.errors import DeviceLost, NoDevice, OutOfDeviceMemory, UsageError
from forge3d_core.hookspecs import API
from forge3d_core.host.machine import HostMachine
from forge3d_core.host.plugin import HostBackend, forge3d_backend
from forge3d_core.protocols import Backend, Binding, Device, DeviceOptions, KernelSource

PATIENCE = 20.0


def double(_threads: tuple[int, int, int], source: Any, target: Any) -> None:
    np.multiply(source, 2, out=target)


DOUBLE = KernelSource("double", {"host": double}, (Binding("a", "read", "u4"), Binding("b", "write", "u4")))


def stream(device: Device) -> None:
    """Send numbers up, double them and bring them home, many times over a small ring."""
    numbers = np.arange(4096, dtype=np.uint32)
    kernel = device.create_kernel(DOUBLE)
    with (
        device.create_buffer(numbers.nbytes) as source,
        device.create_buffer(numbers.nbytes) as target,
        device.staging_ring(ring_count=3, buffer_size=4000) as ring,
        device.readback_pool(max_pending_ops=2, buffer_size=numbers.nbytes) as pool,
    ):
        for i in range(6):
            ring.upload(numbers + i, source)
            device.submit(device.command_list().dispatch(kernel, [source, target], threads=numbers.size))
            handle = pool.read(target, dtype=np.uint32)
            assert np.array_equal(handle.wait(PATIENCE), 2 * (numbers + i))


@pytest.mark.parametrize(
    "selector",
    ["", "?seed=1", "?seed=2", "?align=4&pitch=256", "?align=16&seed=3", "?link=4GB/s&latency=20us"],
)
def test_the_whole_loop(selector: str) -> None:
    with HostBackend().open(selector) as device:
        stream(device)


@pytest.mark.parametrize("selector", ["", "?seed=4", "?pitch=256", "?pitch=64&align=4&seed=5"])
def test_texture_rows_lose_their_padding(selector: str) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (37, 29, 4), np.uint8)
    with HostBackend().open(selector) as device, device.staging_ring(buffer_size=4096) as ring:
        texture = device.create_texture(29, 37)
        ring.upload(picture, texture)
        with device.readback_pool() as pool:
            assert np.array_equal(pool.read(texture).wait(PATIENCE), picture)


def test_coroutines_are_woken_under_chaos() -> None:
    async def gather() -> list[Any]:
        with HostBackend().open("?seed=9") as device, device.readback_pool(max_pending_ops=4) as pool:
            buffers = [device.create_buffer(16) for _ in range(4)]
            for i, buffer in enumerate(buffers):
                device.submit(device.command_list().fill(buffer, i))
            return await asyncio.gather(*[pool.read(buffer) for buffer in buffers])

    assert [array[0] for array in asyncio.run(gather())] == [0, 1, 2, 3]


def test_a_seed_replays_through_the_core() -> None:
    traces = []
    for _ in range(2):
        with HostBackend().open("?seed=11") as device:
            stream(device)
            traces.append(device.native.trace())
    assert traces[0] == traces[1]
    assert len(traces[0]) > 100


def test_the_plugin_is_a_backend() -> None:
    backend = forge3d_backend()
    assert isinstance(backend, Backend)
    assert (backend.name, backend.api) == ("host", API)


def test_probe_starts_nothing_and_lists_what_open_opens() -> None:
    before = threading.enumerate()
    (info,) = HostBackend().probe()
    assert threading.enumerate() == before
    assert (info.backend, info.kind, info.selector) == ("host", "cpu", "0")
    with HostBackend().open(info.selector) as device:
        assert device.info == info


def test_a_simulator_says_so_and_how_to_open_it_again() -> None:
    with HostBackend().open("?seed=3&lanes=upload,compute,download,extra") as device:
        assert device.info.kind == "simulator"
        assert device.info.selector == "?seed=3&lanes=upload,compute,download,extra"
        assert list(device.lanes) == ["upload", "compute", "download", "extra"]


def test_open_refuses_what_there_is_not() -> None:
    with pytest.raises(NoDevice, match="no device '7'"):
        HostBackend().open("7")
    with pytest.raises(UsageError, match="did you mean 'latency'"):
        HostBackend().open("?latencyy=1us")


def test_a_machine_is_adopted_and_left_open() -> None:
    machine = HostMachine()
    for _ in range(2):
        with HostBackend().adopt(machine, DeviceOptions(budget="1 MiB")) as device:
            assert device.native is machine
            stream(device)
    machine.close()
    with pytest.raises(UsageError, match="not NoneType"):
        HostBackend().adopt(None)


def test_faults_reach_the_user_as_errors() -> None:
    with HostBackend().open("?seed=1&oom_at=2") as device:
        device.create_buffer(8)
        with pytest.raises(OutOfDeviceMemory, match="allocation 2"):
            device.create_buffer(8)
        buffer = device.create_buffer(8)
        device.native.hold("compute")
        point = device.submit(device.command_list().fill(buffer, 1))
        assert not point.done
        device.native.lose("test")
        with pytest.raises(DeviceLost, match="test"):
            point.wait(PATIENCE)


def test_a_held_lane_opens_when_the_device_closes() -> None:
    device = HostBackend().open("", DeviceOptions(drain_timeout=PATIENCE))
    target = np.zeros(4, np.uint8)
    buffer = device.adopt(target)
    device.native.hold("compute")
    device.submit(device.command_list().fill(buffer, 7))
    device.close()
    assert target.tolist() == [7] * 4
