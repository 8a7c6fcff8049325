"""A texture larger than the staging memory, and what to do when there is no room.

Three policies for uploads: let ``upload`` chunk and wait, tile by hand and skip work while the ring is
full, or size the ring to what the budget leaves. Three for readbacks: wait, raise, degrade.
"""

import numpy as np

import forge3d_core as forge3d

KIB = 1024
WIDTH, HEIGHT = 1000, 700  # rows of 4000 bytes: not a multiple of the 256 that some APIs want


def chunked(device: forge3d.Device, pool: forge3d.ReadbackPool, image: np.ndarray) -> None:
    """Let the ring chunk: what is too large for its blocks goes through chunks of the device's own."""
    with device.create_texture(WIDTH, HEIGHT) as texture:
        with device.staging_ring(ring_count=3, buffer_size="64 KiB") as ring:
            ring.upload(image, texture)
            stats = ring.stats()
        assert (pool.read(texture).wait() == image).all()
    print(f"chunked: {image.nbytes // KIB} KiB, {stats.buffer_stalls} stalls")
    assert device.budget.metrics().within_budget


def tiled(device: forge3d.Device, pool: forge3d.ReadbackPool, image: np.ndarray) -> None:
    """Tile by hand, doing something else while the ring is full."""
    side, deferred = 100, 0
    origins = [(x, y) for y in range(0, HEIGHT, side) for x in range(0, WIDTH, side)]
    with device.create_texture(WIDTH, HEIGHT) as texture:
        with device.staging_ring(ring_count=2, buffer_size="128 KiB") as ring:
            pitch = -(-side * 4 // device.limits.row_pitch_alignment) * device.limits.row_pitch_alignment
            for x, y in origins:
                slot = ring.allocate(side * pitch)
                if slot is None:  # a program with other work would do that now
                    deferred += 1
                    ring.advance()
                    slot = ring.reserve(side * pitch, timeout=30)
                rows = slot.array(np.uint8, (side, pitch))
                rows[:, : side * 4] = image[y : y + side, x : x + side].reshape(side, side * 4)
                slot.commit_rows(texture, origin=(x, y), size=(side, side), row_pitch=pitch)
                del rows
            ring.advance()
        assert (pool.read(texture).wait() == image).all()
    print(f"tiled: {len(origins)} tiles, {deferred} had to wait")


def within(device: forge3d.Device) -> None:
    """Size the ring to the budget instead of finding out."""
    size = device.limits.max_buffer_size
    while True:
        try:
            device.budget.check(3 * size)
            break
        except forge3d.BudgetError:
            size //= 2
    with device.staging_ring(ring_count=3, buffer_size=size):
        used = device.budget.metrics()
        print(f"within: 3 x {size // KIB} KiB, {used.utilization:.0%} of the budget")
        assert used.within_budget


def backpressure(device: forge3d.Device, image: np.ndarray) -> None:
    """More reads than blocks, under each policy."""
    with device.create_texture(WIDTH, HEIGHT) as texture, device.staging_ring() as ring:
        ring.upload(image, texture)
        region = {"size": (64, 64)}
        for policy in ("wait", "degrade"):
            with device.readback_pool(max_pending_ops=2, backpressure=policy) as pool:
                handles = [pool.read(texture, **region) for _ in range(8)]
                assert all((handle.wait() == image[:64, :64]).all() for handle in handles)
                print(f"{policy}: 8 reads through 2 blocks, {pool.stats().waits} found none free")
        with device.readback_pool(max_pending_ops=1, backpressure="raise") as pool:
            with pool.read(texture, **region).lease(timeout=30):  # holds the only block
                try:
                    pool.read(texture, **region)
                    raise AssertionError("there was no block left")
                except forge3d.Busy as error:
                    print(f"raise: {error}")
            assert (pool.read(texture, **region).wait() == image[:64, :64]).all()


def main() -> None:
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    with forge3d.open_device(budget="16 MiB") as device:
        print(f"on {device.info.backend}: {device.info.name}")
        with device.readback_pool(max_pending_ops=1, buffer_size="3 MiB") as pool:
            chunked(device, pool, image)
            tiled(device, pool, image)
        device.wait_idle()
        within(device)
        backpressure(device, image)
        assert device.budget.metrics().peak_host_visible_bytes <= 16 * KIB * KIB
    print("ok")


if __name__ == "__main__":
    main()
