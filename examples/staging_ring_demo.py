"""A staging ring at work: allocation, wrapping, a full ring, and what the statistics say.

Run it as it stands; ``FORGE3D_BACKEND=host`` (or wgpu, cuda) picks the device.
"""

import numpy as np

import forge3d_core as forge3d

MIB = 1024**2


def main() -> None:
    with forge3d.open_device() as device:
        print(f"on {device.info.backend}: {device.info.name}")
        target = device.create_buffer("8 MiB")
        with device.staging_ring(ring_count=3, buffer_size="1 MiB") as ring, device.readback_pool() as pool:
            # Slices are host-visible memory itself; each starts where the API wants it to.
            first, second = ring.reserve(1000), ring.reserve(3000)
            first.view[:] = 1
            second.view[:] = 2
            print(f"slices at {first.offset} and {second.offset} of block {first.ring_index}")
            assert second.offset % device.limits.staging_alignment == 0
            first.commit(target, 0)
            second.commit(target, 1000)
            point = ring.advance()  # submits both copies
            point.wait(timeout=10)
            assert ring.stats().bytes_in_flight == 0

            # With nothing committed the blocks fill up, and a full ring says so at once.
            held = []
            while (slot := ring.allocate(MIB // 2)) is not None:
                held.append(slot)
            stats = ring.stats()
            print(f"full after {len(held)} slices of 512 KiB, {stats.buffer_stalls} stall")
            assert stats.buffer_stalls == 1
            for slot in held:
                slot.release()

            # More than the whole ring: upload() chunks it, and blocks come back behind their fences.
            data = np.random.default_rng(0).integers(0, 256, 8 * MIB, dtype=np.uint8)
            ring.upload(data, target)
            assert (pool.read(target).wait() == data).all()

            stats = ring.stats()
            print(
                f"staged {stats.bytes_staged / MIB:.1f} MiB in {stats.submissions} submissions through "
                f"{stats.ring_count} x {stats.buffer_size // MIB} MiB; next: {stats.current_ring_index}"
            )
            assert stats.bytes_staged == 4000 + 8 * MIB

            try:
                ring.reserve(2 * MIB)
            except forge3d.TooLarge as error:
                print(f"never fits: {error}")
    print("ok")


if __name__ == "__main__":
    main()
