"""Readbacks under asyncio: one awaited, many gathered, and a stream that wants only the latest frame."""

import asyncio

import forge3d_core as forge3d

SIDE = 256


def render(device: forge3d.Device, image: forge3d.Buffer, frame: int) -> forge3d.FencePoint:
    """Stand in for a renderer: fill the image with the number of the frame."""
    return device.submit(device.command_list(label=f"frame {frame}").fill(image, frame % 256))


async def heartbeat(beats: list[int]) -> None:
    while True:
        beats.append(1)
        await asyncio.sleep(0)


async def one(device: forge3d.Device, image: forge3d.Buffer) -> None:
    async with device.readback_pool() as pool:
        render(device, image, 7)
        handle = await pool.read_async(image, shape=(SIDE, SIDE, 4))
        pixels = await handle
        assert pixels.shape == (SIDE, SIDE, 4)
        assert (pixels == 7).all()
        print("one read:", pixels.shape)


async def batch(device: forge3d.Device, image: forge3d.Buffer) -> None:
    beats: list[int] = []
    pulse = asyncio.create_task(heartbeat(beats))
    async with device.readback_pool(max_pending_ops=4, buffer_size=image.nbytes) as pool:
        handles = []
        for frame in range(10):  # more than there are blocks: older reads land to make room
            render(device, image, frame)
            handles.append(await pool.read_async(image))
        frames = await asyncio.gather(*handles)
        assert [int(pixels[0]) for pixels in frames] == list(range(10))
        stats = pool.stats()
    pulse.cancel()
    assert stats.completed_operations == 10
    assert stats.block_allocations == 4  # nothing is allocated in the steady state
    assert beats  # the loop went on meanwhile
    print(f"batch: {stats.completed_operations} reads through {stats.blocks} blocks")


async def streaming(device: forge3d.Device, image: forge3d.Buffer) -> None:
    async with device.readback_pool(max_pending_ops=2, buffer_size=image.nbytes) as pool:
        stream, shown = pool.stream(image), []
        for frame in range(50):
            render(device, image, frame)
            stream.push()  # never blocks; gives the frame up where the pool has no room
            if (pixels := stream.latest()) is not None:
                shown.append(int(pixels[0]))
            await asyncio.sleep(0)
        device.wait_idle()
        if (pixels := stream.latest()) is not None:
            shown.append(int(pixels[0]))
        assert shown == sorted(shown)  # never an older frame than before
        assert len(shown) + stream.dropped_frames == 50
        print(f"streaming: {len(shown)} frames shown, {stream.dropped_frames} dropped")
        stream.close()


async def main() -> None:
    with forge3d.open_device() as device:
        print(f"on {device.info.backend}: {device.info.name}")
        image = device.create_buffer(SIDE * SIDE * 4)
        await one(device, image)
        await batch(device, image)
        await streaming(device, image)
    print("ok")


if __name__ == "__main__":
    asyncio.run(main())
