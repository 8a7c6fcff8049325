from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from forge3d_core.cold import ColdBuffer, ColdStore, codec_of
from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Closed, MissingDependency, OutOfDeviceMemory, StateError, UsageError
from forge3d_core.formats import TextureShape, texel_dtype, texture_format
from forge3d_core.host.driver import HostDriver
from forge3d_core.protocols import Device

PATIENCE = 20.0
MIB = 2**20


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def filled(device: Device, store: ColdStore, data: np.ndarray[Any, Any]) -> ColdBuffer:
    made = store.create(data.nbytes)
    with made.use() as buffer, device.staging_ring() as ring:
        ring.upload(data, buffer)
    return made


def content(device: Device, cold: ColdBuffer) -> np.ndarray[Any, Any]:
    with cold.use() as buffer, device.readback_pool() as pool:
        return pool.read(buffer).wait(PATIENCE)


def device_bytes(device: Device) -> int:
    device.wait_idle(PATIENCE)
    return device.budget.metrics().device_local_bytes


@pytest.mark.parametrize("nbytes", [1, 1000, MIB, 3 * MIB + 17])
@pytest.mark.parametrize("random", [False, True])
def test_the_bytes_are_the_same_when_they_come_back(any_device: Device, nbytes: int, random: bool) -> None:
    draw = np.random.default_rng(nbytes)
    data = draw.integers(0, 256 if random else 2, nbytes, dtype=np.uint8)
    with ColdStore(any_device) as store:
        cold = filled(any_device, store, data)
        before = device_bytes(any_device)
        assert cold.chill() == nbytes
        assert cold.chill() == 0
        assert (cold.cold, device_bytes(any_device)) == (True, 0)
        assert (content(any_device, cold) == data).all()
        assert (cold.cold, cold.host_bytes, device_bytes(any_device)) == (False, 0, before)
        stats = store.stats()
        assert (stats.chills, stats.warmings, stats.warm_bytes) == (1, 1, nbytes)
    assert device_bytes(any_device) == 0


SHAPES = [
    ("rgba8unorm", (5, 3), {}),
    ("r8unorm", (700, 500), {}),
    ("rgba16float", (33, 17), {"layers": 3, "mip_levels": 3}),
    ("rg32float", (8, 6), {"depth": 5, "mip_levels": 2}),
    ("rgba8unorm", (16, 16), {"layers": 6, "mip_levels": 5}),
    ("bc1-rgba-unorm", (20, 12), {"mip_levels": 2}),
]


def images(texture: Any, format: str) -> list[tuple[Any, np.ndarray[Any, Any]]]:
    """Return each level of a texture and some texels for it, slices in front."""
    found = []
    for level in range(texture.mip_levels):
        part, layout = texture.view(level=level), texture_format(format)
        dtype, channels = texel_dtype(layout)
        across, down = layout.block
        shape = [-(-part.height // down), -(-part.width // across), channels]
        if texture.layers > 1 or texture.depth > 1:
            shape.insert(0, part.layers * part.depth)
        data = np.random.default_rng(level).integers(0, 100, shape).astype(dtype)
        found.append((part, data if channels > 1 else data[..., 0]))
    return found


@pytest.mark.parametrize(("format", "size", "extent"), SHAPES)
def test_textures_come_back_with_every_texel(
    any_device: Device, format: str, size: tuple[int, int], extent: dict[str, int]
) -> None:
    if format not in any_device.limits.texture_formats:
        pytest.skip(f"this device has no textures of {format}")
    with (
        ColdStore(any_device) as store,
        any_device.staging_ring() as ring,
        any_device.readback_pool() as pool,
    ):
        cold = store.create_texture(*size, format, **extent)
        nbytes = TextureShape(*size, **extent).nbytes(texture_format(format))
        with cold.use() as texture:
            wanted = images(texture, format)
            for part, data in wanted:
                ring.upload(data, part)
        for _ in range(2):
            assert cold.chill() == nbytes == cold.nbytes
            assert (cold.cold, device_bytes(any_device)) == (True, 0)
            with cold.use() as texture:
                assert (texture.width, texture.height) == size
                for part, (_, data) in zip(images(texture, format), wanted, strict=True):
                    assert (pool.read(part[0]).wait(PATIENCE) == data).all()
        assert "cold texture of" in repr(cold)
    assert device_bytes(any_device) == 0


def test_textures_that_copies_do_not_bring_back(any_device: Device) -> None:
    with ColdStore(any_device) as store:
        for format, extent in [("depth16unorm", {}), ("rgba8unorm", {"samples": 4})]:
            with pytest.raises(UsageError, match="cold texture"):
                store.create_texture(16, 16, format, **extent)
        with pytest.raises(TypeError, match="levels"):
            store.create_texture(16, 16, levels=3)  # type: ignore[call-arg]
        assert store.stats().warm == device_bytes(any_device) == 0


def test_textures_go_under_pressure_as_buffers_do(any_device: Device) -> None:
    with ColdStore(any_device) as store:
        texture, buffer = store.create_texture(32, 32), store.create(4096)
        with buffer.use():
            assert store.chill(10**6) == 4096
            assert (texture.cold, buffer.cold) == (True, False)
    with pytest.raises(Closed):
        store.create_texture(4, 4)


def test_what_repeats_takes_less(any_device: Device) -> None:
    with ColdStore(any_device) as store:
        cold = filled(any_device, store, np.zeros(2 * MIB, np.uint8))
        cold.chill()
        assert store.stats().ratio > 100
        assert store.stats().cold_bytes == 2 * MIB


def test_work_that_is_in_flight_comes_first(
    device: AssembledDevice, background: Callable[..., Future[Any]]
) -> None:
    with ColdStore(device) as store:
        cold = store.create(4096)
        hold = device.native.hold("compute")
        with cold.use() as buffer:
            device.submit(device.command_list().fill(buffer, 9))
        moving = background(cold.chill)
        assert not moving.done()
        hold.release()
        assert moving.result(PATIENCE) == 4096
        assert (content(device, cold) == 9).all()


def test_one_in_use_stays(any_device: Device) -> None:
    with ColdStore(any_device) as store:
        cold = store.create(4096)
        with cold.use():
            with pytest.raises(StateError, match="in use"):
                cold.chill()
            assert store.chill(1) == 0
            assert store.chill_old(0.0) == 0
        assert store.chill(1) == 4096


def test_what_is_old_goes_when_another_use_ends(any_device: Device) -> None:
    clock = Clock()
    with ColdStore(any_device, max_age=10.0, clock=clock) as store:
        old, new = store.create(1000), store.create(2000)
        clock.now += 6
        with new.use():
            pass
        assert not old.cold
        clock.now += 6
        with new.use():
            pass
        assert (old.cold, new.cold) == (True, False)
        assert not content(any_device, old).any()


def test_when_the_device_has_no_more_memory(device: AssembledDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = HostDriver.allocate_buffer

    def scarce(driver: HostDriver, nbytes: int) -> Any:
        if device.budget.metrics().device_local_bytes > 3 * MIB:
            raise OutOfDeviceMemory("none left")
        return allocate(driver, nbytes)

    monkeypatch.setattr(HostDriver, "allocate_buffer", scarce)
    clock = Clock()
    with ColdStore(device, clock=clock) as store:
        colds = []
        for number in range(12):  # four times what there is room for
            clock.now += 1
            colds.append(filled(device, store, np.full(MIB, number, np.uint8)))
        assert store.stats().cold == 9
        for number, cold in enumerate(colds):
            assert (content(device, cold) == number).all()
        with pytest.raises(OutOfDeviceMemory), colds[0].use(), colds[1].use(), colds[2].use(), colds[3].use():
            pass
        assert (content(device, colds[3]) == 3).all()


def test_threads_use_and_chill_at_once(any_device: Device, background: Callable[..., Future[Any]]) -> None:
    with ColdStore(any_device) as store:
        colds = [filled(any_device, store, np.full(5000, n, np.uint8)) for n in range(3)]

        def use(seed: int) -> None:
            draw = np.random.default_rng(seed)
            for number in draw.integers(0, 3, 25):
                assert (content(any_device, colds[number]) == number).all(), f"seed {seed}"

        def chill() -> None:
            for _ in range(25):
                store.chill(5000)

        for work in [background(use, 1), background(use, 2), background(chill), background(chill)]:
            work.result(4 * PATIENCE)
        stats = store.stats()
        assert stats.warm + stats.cold == 3
        assert device_bytes(any_device) == stats.warm_bytes


def test_dropped_and_closed(any_device: Device) -> None:
    store = ColdStore(any_device)
    kept, dropped = store.create(1000), store.create(1000)
    del dropped
    assert store.stats().warm == 1
    kept.chill()
    store.close()
    store.close()
    assert kept.closed
    for late in (lambda: store.create(1), kept.chill, kept.warm):
        with pytest.raises(Closed):
            late()
    assert device_bytes(any_device) == 0


def test_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError):
        codec_of("rar")
    for name, module in (("lz4", "lz4.frame"), ("zstd", "zstandard")):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(MissingDependency, match="or take 'zlib'"):
            codec_of(name)
