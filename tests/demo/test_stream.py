"""The demo's loop: whatever the tiles, the picture is numpy's, and the figures are of what happened."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import forge3d_core
from forge3d_core import Device, UsageError
from forge3d_core.demo import Light, Terrain, TerrainStream, bands, shade_terrain, tiles
from forge3d_core.demo.check import compare
from forge3d_core.demo.stream import DEPTH


@pytest.fixture
def terrain() -> Terrain:
    x, y = np.meshgrid(np.linspace(0, 9, 132), np.linspace(0, 7, 101))
    return Terrain((300 * np.sin(x) * np.cos(y)).astype(np.float32), 80.0, 90.0)


@pytest.fixture
def device(open_device: Callable[..., Device]) -> Device:
    return open_device()


@pytest.mark.parametrize("side", [None, 4, 32, 100, 4096])
def test_every_tile_is_right(terrain: Terrain, device: Device, side: int | None) -> None:
    picture, report = shade_terrain(device, terrain, side=side, ring_count=2, buffer_size="8 KiB")
    assert report.correct
    assert picture.shape == terrain.elevation.shape
    assert picture.std() > 10
    assert device.budget.metrics().total_bytes == 0


@pytest.mark.parametrize("size", [(1, 4), (4, 4), (2, 8), (9, 12)])
def test_a_terrain_of_few_samples_is_shaded_to_its_edges(device: Device, size: tuple[int, int]) -> None:
    heights = np.random.default_rng(1).uniform(0, 500, size).astype(np.float32)
    for side in (None, 4):
        _, report = shade_terrain(device, Terrain(heights, 30.0, 30.0), side=side)
        assert report.correct


@pytest.mark.parametrize("size", [(8, 5), (8, 6), (227, 567), (4, 3), (0, 4), (4, 0)])
def test_a_width_that_threads_do_not_divide_is_refused(device: Device, size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=f"multiple of 4 samples, not {size[1]} x {size[0]}"):
        shade_terrain(device, Terrain(np.zeros(size, np.float32), 30.0, 30.0))
    assert device.budget.metrics().total_bytes == 0


def test_every_backend_here_shades_alike(terrain: Terrain, backend: str) -> None:
    with forge3d_core.open_device(backend) as device:
        for side in (None, 32):
            _, report = shade_terrain(device, terrain, side=side)
            assert report.correct, report


def test_bands_cover_the_terrain_in_whole_rows(terrain: Terrain) -> None:
    plan = list(bands(terrain, 132 * 4 * 30))
    assert [(tile.y, tile.height, tile.width) for tile in plan] == [
        *((0, 30, 132), (30, 30, 132), (60, 30, 132), (90, 11, 132))
    ]
    assert all(tile.window(terrain).flags.c_contiguous for tile in plan)
    assert [len(list(bands(terrain, nbytes))) for nbytes in (1, 1 << 30)] == [101, 1]


@pytest.mark.parametrize("side", [0, 3, 6, -4])
def test_a_side_that_no_tile_can_have_is_refused(terrain: Terrain, side: int) -> None:
    with pytest.raises(UsageError, match="multiple of 4"):
        list(tiles(terrain, side))


def test_a_wrong_picture_is_told_by_its_tiles(terrain: Terrain, device: Device) -> None:
    plan, light = list(tiles(terrain, 32)), Light()
    picture, _ = shade_terrain(device, terrain, side=32)
    picture[40, 40] ^= 0x80
    picture[100, 131] ^= 0x80
    wrong, largest = compare(plan, terrain, light, picture, 1, lambda _phase, _done, _all: None)
    assert (wrong, largest) == (2, 128)


def test_what_is_in_flight_is_what_the_device_has_not_done(terrain: Terrain, device: Device) -> None:
    _, report = shade_terrain(device, terrain, side=32)
    assert report.tiles == 20
    assert 0 < report.mean_tiles_in_flight <= report.peak_tiles_in_flight <= DEPTH
    assert report.seconds > 0
    assert report.link_seconds > 0
    windows = [tile.window(terrain).nbytes for tile in tiles(terrain, 32)]
    assert report.bytes_up == sum(windows)
    assert report.bytes_down == terrain.elevation.size


def test_a_stream_runs_as_often_as_is_wanted(terrain: Terrain, device: Device) -> None:
    plan, light = list(bands(terrain, 132 * 4 * 10)), Light()
    with TerrainStream(device, terrain, plan, light) as stream:
        for _ in range(3):
            picture = np.zeros(terrain.elevation.shape, np.uint8)
            stream.run(picture)
            assert compare(plan, terrain, light, picture, 1, lambda *_: None) == (0, 0)
    assert device.budget.metrics().total_bytes == 0
