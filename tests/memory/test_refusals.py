"""Each native allocation that a program of many parts makes, refused: by itself, and with all after it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

import forge3d_core
from forge3d_core.cold import ColdStore
from forge3d_core.demo import Terrain, shade_terrain
from forge3d_core.device import assemble
from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import OutOfDeviceMemory
from forge3d_core.pooling import BufferPool
from forge3d_core.protocols import DeviceOptions
from forge3d_core.tiling import Tiling, process

Refused = Callable[[int], bool]

RANDOM = np.random.default_rng(1)
TERRAIN = Terrain(RANDOM.normal(0, 30, (48, 64)).cumsum(0).astype(np.float32), 80.0, 90.0)
IMAGE = np.arange(64 * 48, dtype=np.uint32).reshape(64, 48)
TEXELS = RANDOM.integers(0, 256, (64, 64, 4), dtype=np.uint8)
LARGE = np.arange(3 << 20, dtype=np.uint8)  # goes through chunks

EACH: dict[str, Callable[[int], Refused]] = {
    "alone": lambda number: lambda n: n == number,
    "with all after it": lambda number: lambda n: n >= number,
}


class Refusing:
    """A driver that refuses the allocations that it is told to, counted from 0."""

    def __init__(self, driver: Any) -> None:
        self.driver, self.count = driver, 0
        self.refused: Refused = lambda _number: False

    def allocate_buffer(self, *args: Any) -> Any:
        return self._ask(self.driver.allocate_buffer, args)

    def allocate_texture(self, *args: Any) -> Any:
        return self._ask(self.driver.allocate_texture, args)

    def allocate_block(self, *args: Any) -> Any:
        return self._ask(self.driver.allocate_block, args)

    def close(self, timeout: float) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)

    def _ask(self, allocate: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        number, self.count = self.count, self.count + 1
        if self.refused(number):
            raise OutOfDeviceMemory(f"allocation {number} was refused")
        return allocate(*args)


def program(device: AssembledDevice, patience: float) -> None:
    """Take memory in all the ways that there are, use it, and give it back."""
    shade_terrain(device, TERRAIN)
    plan = Tiling(IMAGE.shape, IMAGE.dtype).tiled((32, 48))
    found = process(device, IMAGE, lambda commands, a, b, _tile: commands.copy(a, b), plan=plan)
    assert (found == IMAGE).all()
    with (
        device.staging_ring(ring_count=2, buffer_size=65536) as ring,
        device.readback_pool(max_pending_ops=2, buffer_size=65536) as reads,
        device.create_texture(64, 64) as texture,
        device.create_buffer(LARGE.nbytes) as large,
    ):
        ring.upload(TEXELS, texture)
        assert (reads.read(texture).wait(patience) == TEXELS).all()
        ring.upload(LARGE, large)
        assert (reads.read(large).wait(patience) == LARGE).all()
    with BufferPool(device) as pool, pool.acquire(5000) as one, pool.acquire(7000):
        device.submit(device.command_list().fill(one.buffer, 1))
    with ColdStore(device) as store:
        cold = store.create(100_000)
        cold.chill()
        with cold.use():
            pass
    device.host_array((1000,), np.float32)[:] = 1


@pytest.mark.parametrize("backend", ["host", "wgpu", "cuda"], indirect=True)
def test_whichever_allocation_is_refused(
    backend: str, background: Callable[..., Future[Any]], patience: float
) -> None:
    with forge3d_core.open_device(backend) as real:
        driver: Any = Refusing(real.driver)
        device = assemble(driver, DeviceOptions(budget="64 MiB"))

        def held() -> tuple[int, ...]:
            gc.collect()
            device.budget.give_back(1 << 40)  # chunks that the device keeps for the next upload
            now = device.budget.metrics()
            return now.buffer_count, now.texture_count, now.host_visible_bytes, now.device_local_bytes

        for _ in range(2):  # the first makes what the device keeps: chunks, compiled kernels
            program(device, patience)
            device.wait_idle(patience)
            assert not any(held())
            reached, driver.count = driver.count, 0
        assert reached > 20
        raised = 0
        for refused in EACH.values():
            for number in range(reached):
                driver.count, driver.refused = 0, refused(number)
                try:
                    background(program, device, patience).result(patience)  # which would time out
                except OutOfDeviceMemory:
                    raised += 1
                driver.refused = lambda _number: False
                device.wait_idle(patience)
                assert not any(held()), f"allocation {number} was refused"
        # A few are tried again once others have given back; all others say so.
        assert raised > 1.8 * reached
        program(device, patience)
        device.close()
