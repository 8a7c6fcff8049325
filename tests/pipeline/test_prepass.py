"""Depths and objects of real triangles, on the device and in numpy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

import forge3d_core
from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import StateError, TooLarge, UsageError
from forge3d_core.pipeline import AsyncComputePrepass, SceneObject
from forge3d_core.protocols import Device

WIDTH, HEIGHT = 61, 43


def triangle(*corners: tuple[float, float, float]) -> NDArray[np.float32]:
    return np.array([corners], np.float32)


def random_objects(seed: int, count: int = 5) -> list[SceneObject]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        places = rng.uniform(-20, 80, (4, 3, 2)).round(1)
        triangles = np.concatenate([places, rng.uniform(0, 1, (4, 3, 1))], axis=2)
        made.append(SceneObject(100 + number, triangles, rng.uniform(0, 1, (4, 3, 4))))
    return made


def reference(
    objects: list[SceneObject],
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.uint8], int]:
    """Return depths, ids, colours and how often pixels are shaded, in double precision."""
    depth, ids = np.ones((HEIGHT, WIDTH)), np.full((HEIGHT, WIDTH), -1, np.int32)
    image, shaded = np.zeros((HEIGHT, WIDTH, 4), np.uint8), 0
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for each in objects:
        colors = np.broadcast_to(each.colors, (len(each.triangles), 3, 4))
        for corners, color in zip(each.triangles.astype(float), colors, strict=True):
            (ax, ay), (bx, by), (cx, cy) = np.rint(corners[:, :2] * 4) / 4
            area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
            if not area:
                continue
            w2 = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
            w0 = ((cx - bx) * (y - by) - (cy - by) * (x - bx)) / area
            w1 = ((ax - cx) * (y - cy) - (ay - cy) * (x - cx)) / area
            z = w0 * corners[0, 2] + w1 * corners[1, 2] + w2 * corners[2, 2]
            closer = (w0 >= 0) & (w1 >= 0) & (w2 >= 0) & (z < depth)
            depth[closer], ids[closer] = z[closer], each.id
            mixed = w0[..., None] * color[0] + w1[..., None] * color[1] + w2[..., None] * color[2]
            image[closer] = (np.clip(mixed, 0, 1) * 255 + 0.5).astype(np.uint8)[closer]
            shaded += int(closer.sum())
    return depth, ids, image, shaded


@pytest.fixture(params=["host", pytest.param("wgpu", marks=pytest.mark.adapter)])
def drawing(request: pytest.FixtureRequest) -> Iterator[Device]:
    try:
        device = forge3d_core.open_device(request.param)
    except forge3d_core.BackendError as error:
        pytest.skip(f"no {request.param} here: {error}")
    with device:
        yield device


def test_depths_and_ids_are_those_of_numpy(drawing: Device) -> None:
    with AsyncComputePrepass(WIDTH, HEIGHT, drawing) as prepass:
        for seed in range(4):
            objects = random_objects(seed)
            found = prepass.compute_depth_prepass_async(objects).result()
            depth, ids, image, shaded = reference(objects)
            np.testing.assert_allclose(found.depth_buffer, depth, atol=1e-5)
            assert (found.object_ids != ids).sum() <= 2  # where two cross, the last bit may decide
            assert found.stats.objects_processed == 5
            assert found.stats.pixels_with_geometry == (found.object_ids >= 0).sum()
            assert found.stats.mean_depth == pytest.approx(depth[ids >= 0].mean(), abs=1e-4)
            assert found.stats.depth_complexity >= 1
            early = prepass.apply_early_z_optimization()
            assert early.pixels_shaded == found.stats.pixels_with_geometry
            assert abs(early.pixels_shaded_without - shaded) <= 2
            assert early.pixels_shaded <= early.pixels_shaded_without
            difference = np.abs(early.image.astype(int) - image)
            assert (difference.max(axis=2) > 1).sum() <= 2


def test_what_is_hidden_is_not_shaded(drawing: Device) -> None:
    whole = ((-5, -5), (200, -5), (-5, 200))
    front = SceneObject(1, triangle(*[(x, y, 0.2) for x, y in whole]), (1, 0, 0))
    back = SceneObject(2, triangle(*[(x, y, 0.8) for x, y in whole]), (0, 1, 0))
    aside = SceneObject(3, triangle((500, 500, 0), (510, 500, 0), (500, 510, 0)))
    with AsyncComputePrepass(WIDTH, HEIGHT, drawing) as prepass:
        early = prepass.apply_early_z_optimization([back, front, aside])
        pixels = WIDTH * HEIGHT
        assert [each.id for each in early.visible_objects] == [1]
        assert (early.pixels_shaded, early.pixels_shaded_without) == (pixels, 2 * pixels)
        assert early.optimization_ratio == pytest.approx(1 / 3)
        assert (early.image == (255, 0, 0, 255)).all()


def test_nothing_at_all(device: AssembledDevice) -> None:
    with AsyncComputePrepass(WIDTH, HEIGHT, device) as prepass:
        with pytest.raises(StateError):
            prepass.apply_early_z_optimization()
        found = prepass.compute_depth_prepass_async([]).result()
        assert (found.depth_buffer == 1).all()
        assert (found.object_ids == -1).all()
        assert found.stats.depth_complexity == found.stats.mean_depth == 0
        assert prepass.apply_early_z_optimization([]).optimization_ratio == 0


def test_a_result_is_the_same_each_time_and_tells_when_it_is_there(device: AssembledDevice) -> None:
    with AsyncComputePrepass(WIDTH, HEIGHT, device) as prepass:
        with device.driver.hold("compute"):
            handle = prepass.compute_depth_prepass_async(random_objects(1))
            assert not handle.is_complete
        assert handle.result() is handle.result()
        assert handle.is_complete


def test_its_memory_goes_back(device: AssembledDevice) -> None:
    with AsyncComputePrepass(WIDTH, HEIGHT, device) as prepass:
        for count in (1, 9, 2):
            prepass.compute_depth_prepass_async(random_objects(1, count)).result()
    device.wait_idle()
    assert device.budget.metrics().device_local_bytes == 0


def test_wrong_use(device: AssembledDevice) -> None:
    with pytest.raises(TooLarge):
        AsyncComputePrepass(4097, 1, device)
    for wrong in (np.zeros((3, 3)), np.zeros((1, 3, 2)), np.full((1, 3, 3), np.nan), np.full((1, 3, 3), 1e6)):
        with pytest.raises(UsageError):
            SceneObject(1, wrong)
    with pytest.raises(UsageError):
        SceneObject(1, np.zeros((1, 3, 3)), (1, 2))
    for wrong_id in (-1, 1 << 31):
        with pytest.raises(UsageError, match="from 0 to"):
            SceneObject(wrong_id, np.zeros((1, 3, 3)))
    with pytest.raises(UsageError):
        SceneObject("a", np.zeros((1, 3, 3)))  # type: ignore[arg-type]
