"""Pictures that come home while the next are drawn: the renderer of the async readback guide.

One after the other, overlapped under asyncio, through a readback context, and what the overlap brings.
"""

import asyncio

import numpy as np

import forge3d_core as forge3d
from forge3d_core.pipeline import AsyncReadbackContext, AsyncRenderer, benchmark_readback_performance

WIDTH, HEIGHT, FRAMES = 160, 120, 12


def spinning(commands: forge3d.CommandList, target: forge3d.Buffer, frame: int) -> None:
    """A picture of one grey: a program's own kernel would be dispatched here."""
    commands.fill(target, 10 * frame)


async def overlapped(renderer: AsyncRenderer) -> list[np.ndarray]:
    handles = [await renderer.render_async() for _ in range(FRAMES)]
    return list(await asyncio.gather(*(handle.wait() for handle in handles)))


async def batch(renderer: AsyncRenderer) -> np.ndarray:
    async with AsyncReadbackContext(renderer) as manager:
        handles = [await manager.readback_texture_async(WIDTH, HEIGHT) for _ in range(5)]
        results = await asyncio.gather(*(handle.wait() for handle in handles))
        assert all((result == results[0]).all() for result in results)
        return results[0]


def main() -> None:
    config = forge3d.AsyncReadbackConfig(double_buffered=True, max_pending_ops=4)
    with forge3d.open_device() as device:
        print(f"on {device.info.backend}: {device.info.name}")
        with AsyncRenderer(WIDTH, HEIGHT, config, device=device) as renderer:
            triangle = renderer.render_triangle_rgba()
            assert triangle.shape == (HEIGHT, WIDTH, 4)
            assert (asyncio.run(batch(renderer)) == triangle).all()
            figures = benchmark_readback_performance(renderer, num_operations=10)
            print(f"overlapped {figures.speedup:.2f} x as fast, {figures.frame_bytes} bytes a frame")
        with AsyncRenderer(WIDTH, HEIGHT, config, device=device, draw=spinning) as renderer:
            pictures = asyncio.run(overlapped(renderer))
            assert [int(picture[0, 0, 0]) for picture in pictures] == [10 * n for n in range(FRAMES)]
            stats = renderer.get_readback_stats()
            print(f"{stats.completed_operations} of {stats.total_operations} pictures home")
        if device.info.backend == "wgpu" and not device.info.caution:  # which has render passes
            from forge3d_wgpu.rendering import RenderPipeline

            with (
                RenderPipeline(device) as pipeline,
                AsyncRenderer(WIDTH, HEIGHT, config, device=device, draw=pipeline) as renderer,
            ):
                covered = renderer.render_triangle_rgba()[..., 3] == triangle[..., 3]
                assert covered.mean() > 0.99
                print("a render pipeline draws the same triangle")
    print("ok")


if __name__ == "__main__":
    main()
