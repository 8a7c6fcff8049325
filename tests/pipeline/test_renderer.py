"""Pictures that come home while the next are drawn."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import UsageError
from forge3d_core.pipeline import (
    AsyncReadbackContext,
    AsyncReadbackManager,
    AsyncRenderer,
    SceneObject,
    benchmark_readback_performance,
)
from forge3d_core.protocols import AsyncReadbackConfig, Buffer, CommandList


def test_a_triangle(device: AssembledDevice) -> None:
    with AsyncRenderer(64, 48, device=device) as renderer:
        picture = renderer.render_triangle_rgba()
    assert picture.shape == (48, 64, 4)
    assert (picture[0] == 0).all()
    assert picture[-8, 10, :3].argmax() == 1  # green at the lower left
    assert picture[-8, 53, :3].argmax() == 2  # blue at the lower right
    assert picture[8, 31, :3].argmax() == 0  # red at the top
    assert set(np.unique(picture[..., 3])) == {0, 255}


def test_frames_of_the_programs_own(device: AssembledDevice) -> None:
    def draw(commands: CommandList, target: Buffer, frame: int) -> None:
        commands.fill(target, frame)

    async def frames() -> list[int]:
        async with AsyncRenderer(
            8, 8, AsyncReadbackConfig(max_pending_ops=3), device=device, draw=draw
        ) as renderer:
            handles = [await renderer.render_async() for _ in range(20)]
            pictures = await asyncio.gather(*(handle.wait() for handle in handles))
            stats = renderer.get_readback_stats()
            assert (stats.total_operations, stats.completed_operations) == (20, 20)
            assert all((picture == picture[0, 0, 0]).all() for picture in pictures)
            return [int(picture[0, 0, 0]) for picture in pictures]

    assert asyncio.run(frames()) == list(range(20))


@pytest.mark.parametrize("pending", [1, 3])
def test_tasks_that_draw_side_by_side_each_get_their_own_frame(device: AssembledDevice, pending: int) -> None:
    def draw(commands: CommandList, target: Buffer, frame: int) -> None:
        commands.fill(target, frame)

    async def frames() -> list[int]:
        config = AsyncReadbackConfig(max_pending_ops=pending)
        async with AsyncRenderer(8, 8, config, device=device, draw=draw) as renderer:

            async def one() -> int:
                return int((await (await renderer.render_async()).wait())[0, 0, 0])

            with device.driver.hold("download"):
                tasks = [asyncio.create_task(one()) for _ in range(12)]
                for _ in range(20):
                    await asyncio.sleep(0)
                tasks[5].cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            return [each for each in ended if isinstance(each, int)]

    assert asyncio.run(frames()) == list(range(11))


def test_drawing_overlaps_with_readback(device: AssembledDevice) -> None:
    def draw(commands: CommandList, target: Buffer, frame: int) -> None:
        commands.fill(target, frame)

    with AsyncRenderer(8, 8, device=device, draw=draw) as renderer:
        with device.driver.hold("download"):
            handles = [renderer.render() for _ in range(4)]
            device.lanes["compute"].timeline.point(4).wait(20)  # all are drawn, none is read
            assert not any(handle.is_complete for handle in handles)
            assert handles[0].try_get() is None
        assert [int(handle.result()[0, 0, 0]) for handle in handles] == [0, 1, 2, 3]


def test_a_scene(device: AssembledDevice) -> None:
    whole = np.array([[[-99, -99, 0.5], [999, -99, 0.5], [-99, 999, 0.5]]])
    with AsyncRenderer(8, 8, device=device, scene=[SceneObject(1, whole, (0, 0, 1))]) as renderer:
        assert (renderer.render_triangle_rgba() == (0, 0, 255, 255)).all()
        renderer.scene = ()
        assert (renderer.render_triangle_rgba() == 0).all()


def test_the_managers_of_the_guide(device: AssembledDevice) -> None:
    async def batch() -> None:
        with AsyncRenderer(16, 16, device=device) as renderer:
            async with AsyncReadbackContext(renderer) as manager:
                handles = [await manager.readback_texture_async(16, 16) for _ in range(5)]
                results = await asyncio.gather(*[handle.wait() for handle in handles])
                assert all((result == results[0]).all() for result in results)
                assert (results[0] == renderer.render_triangle_rgba()).all()
                with pytest.raises(UsageError):
                    await manager.readback_texture_async(17, 16)
        with device.create_texture(16, 8) as texture, device.staging_ring() as ring:
            pixels = np.arange(16 * 8 * 4, dtype=np.uint8).reshape(8, 16, 4)
            ring.upload(pixels, texture)
            manager = AsyncReadbackManager(device)
            handle = await manager.readback_texture_async(texture, 16, 8)
            assert (await handle == pixels).all()
            assert manager.get_stats().completed_operations == 1
            with pytest.raises(UsageError):
                await manager.readback_texture_async(16, 8)
            manager.close()

    asyncio.run(batch())


def test_a_benchmark_names_its_baseline(device: AssembledDevice) -> None:
    with AsyncRenderer(8, 8, device=device) as renderer:
        figures = benchmark_readback_performance(renderer, num_operations=5)
    assert (figures.num_operations, figures.frame_bytes) == (5, 256)
    assert figures.speedup == pytest.approx(figures.async_ops_per_sec / figures.sync_ops_per_sec)
    assert figures.throughput_bytes_per_sec == pytest.approx(256 * figures.async_ops_per_sec)


def test_wrong_use(device: AssembledDevice) -> None:
    with pytest.raises(UsageError):
        AsyncRenderer(0, 8, device=device)
    with pytest.raises(UsageError, match="one of the two"):
        AsyncRenderer(8, 8, device=device, scene=[], draw=lambda *_: None)
    device.wait_idle()
    assert device.budget.metrics().device_local_bytes == 0
