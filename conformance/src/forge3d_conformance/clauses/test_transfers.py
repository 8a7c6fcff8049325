"""Bytes between the host and the device in large pieces, and rows of textures that are wide or many."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import contents, fill
from forge3d_conformance.clauses.sources import take as taken
from forge3d_conformance.clauses.staging import Bytes, landed, painted, pattern, put, take
from forge3d_conformance.texels import FORMATS
from forge3d_core.protocols import Buffer, Device, Texture

KIB, MIB = 1 << 10, 1 << 20
PAST = 17 * MIB + 7
"""Bytes beyond what 24 bits count, and beyond 65 535 groups of 64 words."""

HUGE = 128 * MIB


def pieces(room: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, nbytes) at and about what drivers split by, at offsets past 16 and 24 bits."""
    for chunk, times in product((4 * KIB, 64 * KIB, 256 * KIB, MIB), (1, 2)):
        for off in (-1, 0, 3):
            yield 65_541 + off, chunk * times + off
    yield 3, 3 * MIB
    yield room - 1002, 1000
    yield room - 1001, 1001
    yield room - 258 * KIB, 258 * KIB


def random_buffer(bench: Bench, device: Device, nbytes: int) -> tuple[Buffer, Bytes]:
    """Return a buffer of random bytes, poked there, and the bytes."""
    buffer, data = device.create_buffer(nbytes), bench.payload(nbytes)
    bench.poke(device, buffer, data)
    return buffer, data


@pytest.mark.clause("ring.payload")
def test_large_slices_bring_all_their_bytes(bench: Bench) -> None:
    device = bench.open()
    room = min(PAST, device.limits.max_buffer_size)
    target, source = device.create_buffer(room), bench.payload(4 * MIB)
    with device.staging_ring(ring_count=2, buffer_size=4 * MIB) as ring:
        for offset, nbytes in pieces(room):
            if not 0 <= offset <= room - nbytes:
                continue
            lead = ring.reserve(65, bench.patience)  # so that the other stands somewhere in its block
            slot = ring.reserve(min(nbytes, 4 * MIB), bench.patience)
            slot.view[:] = source[:nbytes]
            lead.release()
            slot.commit(target, offset)
            bench.wait(ring.advance(bench.patience))
            seen = bench.peek(device, target, offset - 3, min(nbytes + 6, room - offset + 3))
            what = f"a slice of {nbytes} bytes at {offset}"
            bench.same(seen[3 : 3 + nbytes], source[:nbytes], what)
            device.submit(device.command_list().fill(target, 0, offset=offset - 3, nbytes=seen.size))
        bench.wait(device.submit(device.command_list().fill(target, 0)))
        first = put(ring, pattern(1, 900 * KIB), target)
        second = put(ring, pattern(2, 5000), target, 901 * KIB)  # its offset in the block takes over 16 bits
        bench.wait(ring.advance(bench.patience))
        wanted = np.concatenate([pattern(1, 900 * KIB), np.zeros(KIB, np.uint8), pattern(2, 5000)])
        what = f"slices at {first.offset} and {second.offset} of one block"
        bench.same(bench.peek(device, target, 0, wanted.size), wanted, what)


@pytest.mark.clause("ring.payload")
def test_of_slices_that_overlap_on_their_target_the_last_committed_stays(bench: Bench) -> None:
    device = bench.open()
    target = painted(bench, device, 1000)
    limits = device.limits
    step = max(1024, 2 * limits.copy_alignment, limits.staging_alignment)
    ring = device.staging_ring(ring_count=2, buffer_size=4 * step)  # so that they are in one block
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        wanted = landed(bench, device, target).copy()
        slots = [take(ring, nbytes) for nbytes in (400, 201, 150)]
        for key in order:
            slots[key].view[:] = data = pattern(key + 7 * order[0], slots[key].nbytes)
            offset = (5, 5, 100)[key]
            slots[key].commit(target, offset)
            wanted[offset : offset + data.nbytes] = data
        bench.wait(ring.advance(bench.patience))
        bench.same(
            landed(bench, device, target), wanted, f"overlapping slices committed in the order {order}"
        )


@pytest.mark.clause("ring.payload")
def test_a_target_that_is_closed_before_it_is_advanced_spoils_nothing(bench: Bench) -> None:
    """Its bytes go to no other target, and those of other targets arrive."""
    device = bench.open()
    target = painted(bench, device, 4096)
    for round in range(3):
        gone = device.create_buffer(4096)
        ring = device.staging_ring(ring_count=2, buffer_size=16384)
        put(ring, np.full(4096, 0xEE, np.uint8), gone)
        put(ring, pattern(round, 4096), target)
        gone.close()
        fresh = device.create_buffer(4096)
        bench.wait(ring.advance(bench.patience))
        bench.same(landed(bench, device, target), pattern(round, 4096), "a target beside one that was closed")
        what = "fresh memory, made after a buffer was closed that a slice was committed to,"
        bench.same(landed(bench, device, fresh), np.zeros(4096, np.uint8), what)
        ring.close()
        fresh.close()


@pytest.mark.clause("readback.exact")
def test_large_reads_bring_all_their_bytes(bench: Bench) -> None:
    device = bench.open()
    room = min(PAST, device.limits.max_buffer_size)
    source, memory = random_buffer(bench, device, room)
    with device.readback_pool(max_pending_ops=2, buffer_size=MIB) as pool:
        for offset, nbytes in pieces(room):
            if 0 <= offset <= room - nbytes:
                seen = taken(bench, pool.read(source, offset=offset, nbytes=nbytes))
                bench.same(seen, memory[offset : offset + nbytes], f"a read of {nbytes} bytes at {offset}")
                with pool.read(source, offset=offset, nbytes=nbytes).lease(bench.patience) as seen:
                    what = f"a lease of {nbytes} bytes at {offset}"
                    bench.same(seen, memory[offset : offset + nbytes], what)
        bench.same(taken(bench, pool.read(source)), memory, f"a read of {room} bytes")


@pytest.mark.clause("readback.async", requires=())
def test_a_read_of_any_size_can_be_awaited(bench: Bench) -> None:
    device = bench.open()
    nbytes = min(bench.scale(PAST, HUGE), device.limits.max_buffer_size)
    source = device.create_buffer(nbytes)
    bench.wait(fill(device, source, 7))
    bench.wait(device.submit(device.command_list().fill(source, 9, offset=nbytes - 3)))

    async def awaited() -> NDArray[Any]:
        with device.readback_pool(max_pending_ops=1, buffer_size=MIB, pre_allocate=False) as pool:
            return await pool.read(source)

    seen = bench.run(awaited(), f"an await of {nbytes} bytes")
    wanted = np.full(nbytes, 7, np.uint8)
    wanted[-3:] = 9
    bench.same(seen, wanted, f"{nbytes} bytes that were awaited")


def shapes(bench: Bench) -> Iterator[tuple[str, int, int]]:
    """Yield formats of texels of 1, 2 and 16 bytes with shapes that are wide, high, or whole multiples."""
    side = bench.target.limits.max_texture_size
    for format, (width, height) in product(
        bench.formats("r8unorm", "rg8unorm", "rgba8unorm", "rgba32float"),
        ((1030, 3), (3, 1030), (64, 65), (256, 4), (259, 67)),
    ):
        yield format, min(width, side), min(height, side)


def texels(bench: Bench, format: str, width: int, height: int) -> NDArray[Any]:
    dtype, channels = FORMATS[format]
    values: NDArray[Any] = bench.payload(width * height * channels * np.dtype(dtype).itemsize).view(dtype)
    return values.reshape((height, width) if channels == 1 else (height, width, channels))


def same(bench: Bench, seen: NDArray[Any], wanted: NDArray[Any], what: str) -> None:
    """Compare bytes, so that NaNs count."""
    bench.check(seen.shape == wanted.shape, f"{what}: shape {seen.shape}, {wanted.shape} was expected")
    bench.same(np.frombuffer(seen.tobytes(), np.uint8), np.frombuffer(wanted.tobytes(), np.uint8), what)


@pytest.mark.clause("ring.rows")
def test_rows_of_any_width_and_number_arrive(bench: Bench) -> None:
    _through_textures(bench, "an upload of")


@pytest.mark.clause("readback.exact", requires=("textures",))
def test_rows_of_any_width_and_number_are_read(bench: Bench) -> None:
    _through_textures(bench, "a read of")


def _through_textures(bench: Bench, what: str) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=512 * KIB)
    with device.readback_pool(max_pending_ops=2, buffer_size=512 * KIB) as pool:
        for format, width, height in shapes(bench):
            texture, wanted = (
                device.create_texture(width, height, format),
                texels(bench, format, width, height),
            )
            ring.upload(wanted, texture, timeout=bench.patience)
            size = f"{width} x {height} texels of {format}"
            same(bench, taken(bench, pool.read(texture)), wanted, f"{what} {size}")
            for x, y in ((1, 2), (width // 2, 0), (0, height // 2), (width - 1, height - 1)):
                part = texels(bench, format, width - x, height - y)
                ring.upload(part, texture, origin=(x, y), timeout=bench.patience)
                wanted = wanted.copy()
                wanted[y:, x:] = part
                seen = taken(bench, pool.read(texture, origin=(x, y), size=(width - x, height - y)))
                same(bench, seen, part, f"{what} what lies at ({x}, {y}) of {size}")
            same(bench, taken(bench, pool.read(texture)), wanted, f"{what} parts of {size}")
            texture.close()


@pytest.mark.clause("ring.rows")
def test_several_textures_share_a_block(bench: Bench) -> None:
    """Each at its own offset in the block, the last of them far behind."""
    device = bench.open()
    ring = device.staging_ring(ring_count=1, buffer_size=256 * KIB)
    pitch = max(256, device.limits.row_pitch_alignment)
    made: list[tuple[Texture, int]] = []
    for value in range(1, 9):
        texture = device.create_texture(16, 5)
        slot = take(ring, 5 * pitch + 100)
        slot.view[:] = value
        slot.commit_rows(texture, row_pitch=pitch)
        made.append((texture, value))
    bench.wait(ring.advance(bench.patience))
    with device.readback_pool(max_pending_ops=2, buffer_size=64 * KIB) as pool:
        handles = [(pool.read(texture), value) for texture, value in made]
        for handle, value in handles:
            seen = taken(bench, handle)
            bench.same(seen, np.full_like(seen, value), f"texture {value} of 8 that were staged in one block")


@pytest.mark.clause("readback.abandoned", requires=("hold", "textures"))
def test_reads_of_textures_that_are_cancelled_give_their_blocks_back(bench: Bench) -> None:
    device = bench.open()
    ring, texture = device.staging_ring(ring_count=1, buffer_size=64 * KIB), device.create_texture(33, 7)
    wanted = texels(bench, "rgba8unorm", 33, 7)
    ring.upload(wanted, texture, timeout=bench.patience)
    busy = device.create_buffer(256)
    with device.readback_pool(max_pending_ops=2, timeout=bench.patience, buffer_size=8 * KIB) as pool:
        for _ in range(2):
            with bench.hold(device, "download", 0.3) as hold:
                fill(device, busy, 1, "download")
                handles = [pool.read(texture), pool.read(texture, origin=(5, 2), size=(9, 3))]
                hold.still()
                for handle in handles:
                    handle.cancel()
            device.wait_idle(bench.patience)
            seen = taken(bench, pool.read(texture, origin=(5, 2), size=(9, 3)))
            same(bench, seen, wanted[2:5, 5:14], "a part of a texture, read after reads were cancelled,")
            same(bench, taken(bench, pool.read(texture)), wanted, "a texture read after reads were cancelled")
    bench.check(
        contents(bench, device, busy)[0] == 1, "work on the lane of reads that were cancelled is lost"
    )
