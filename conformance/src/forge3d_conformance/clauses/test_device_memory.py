"""Memory that a device gives out: zeroed, or adopted from its owner."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import contents
from forge3d_core.errors import ForgeError, UsageError
from forge3d_core.protocols import Device, DeviceOptions

SIZES = (1, 3, 1021, 4096, 65536, 1 << 20)
LARGE = (300_001, (4 << 20) + 9, (17 << 20) + 3)
"""Bytes: less than a word, no whole number of words, and the sizes that allocators keep for later."""


@pytest.mark.clause("device.zeroed")
def test_a_buffer_shows_nothing_of_the_one_before(bench: Bench) -> None:
    device = bench.open()
    for _ in range(bench.scale(2, 10)):
        for nbytes in SIZES:
            crowd = [device.create_buffer(nbytes) for _ in range(3)]
            for buffer in crowd:
                fresh = contents(bench, device, buffer)
                bench.same(fresh, np.zeros(nbytes, np.uint8), f"a fresh buffer of {nbytes} bytes")
                bench.wait(device.submit(device.command_list().fill(buffer, 0xAB)))
            for buffer in crowd:
                buffer.close()


@pytest.mark.clause("device.zeroed")
def test_a_large_buffer_is_zero_to_its_end(bench: Bench) -> None:
    device = bench.open()
    for nbytes in LARGE:
        if nbytes <= device.limits.max_buffer_size:
            for _ in range(2):
                with device.create_buffer(nbytes) as buffer:
                    fresh = contents(bench, device, buffer)
                    bench.check(not fresh.any(), f"a fresh buffer of {nbytes} bytes is not all zero")
                    bench.wait(device.submit(device.command_list().fill(buffer, 0xAB)))


@pytest.mark.clause("device.zeroed", requires=("formats",))
def test_a_texture_of_any_format_is_zero(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=1 << 16)
    pool = device.readback_pool(max_pending_ops=1, buffer_size=1 << 16)
    for format in bench.target.formats:
        for _ in range(2):
            with device.create_texture(19, 6, format) as texture:
                seen = pool.read(texture).wait(bench.patience)
                bench.check(not seen.view(np.uint8).any(), f"a fresh texture of {format} is not all zero")
                ring.upload(np.ones_like(seen), texture, timeout=bench.patience)


@pytest.mark.clause("device.zeroed")
def test_a_buffer_closed_behind_work_shows_nothing_either(bench: Bench) -> None:
    device = bench.open()
    for _ in range(bench.scale(4, 40)):
        old = device.create_buffer(4096)
        device.submit(device.command_list().fill(old, 0xCD))
        old.close()
        fresh = device.create_buffer(4096)
        bench.same(
            contents(bench, device, fresh), np.zeros(4096, np.uint8), "a fresh buffer, reused at once,"
        )
        fresh.close()


@pytest.mark.clause("device.zeroed")
def test_a_buffer_shows_nothing_of_one_that_was_dropped(bench: Bench) -> None:
    """Whoever drops a buffer closes nothing: its memory comes back by way of the garbage collector."""
    device = bench.open()
    for _ in range(bench.scale(2, 10)):
        for nbytes in SIZES:
            for _ in range(3):
                bench.wait(device.submit(device.command_list().fill(device.create_buffer(nbytes), 0xEF)))
            gc.collect()
            fresh = [device.create_buffer(nbytes) for _ in range(3)]
            for buffer in fresh:
                seen = contents(bench, device, buffer)
                bench.same(
                    seen, np.zeros(nbytes, np.uint8), f"{nbytes} fresh bytes after others were dropped"
                )
                buffer.close()


@pytest.mark.clause("device.zeroed", requires=("textures",))
def test_a_texture_shows_nothing_of_the_one_before(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=1 << 16)
    pool = device.readback_pool(max_pending_ops=1, buffer_size=1 << 16)
    for _ in range(bench.scale(2, 10)):
        for width, height in ((1, 1), (5, 7), (64, 64)):
            texture = device.create_texture(width, height)
            seen = pool.read(texture).wait(bench.patience)
            bench.same(seen, np.zeros_like(seen), f"a fresh texture of {width} x {height}")
            ring.upload(np.full((height, width, 4), 0xAB, np.uint8), texture, timeout=bench.patience)
            texture.close()


@pytest.mark.clause("device.zeroed")
def test_zeroing_never_comes_after_the_first_write(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=4096)
    for _ in range(bench.scale(10, 100)):
        for lane in bench.lanes:
            with device.create_buffer(4096) as buffer:
                device.submit(device.command_list().fill(buffer, 7), lane=lane)
                seen = contents(bench, device, buffer)
                bench.same(seen, np.full(4096, 7, np.uint8), f"a buffer filled on {lane!r} as soon as made")
        with device.create_buffer(4096) as buffer:
            ring.upload(np.full(4096, 9, np.uint8), buffer, timeout=bench.patience)
            bench.same(
                contents(bench, device, buffer),
                np.full(4096, 9, np.uint8),
                "a buffer uploaded to as soon as made",
            )


@pytest.mark.clause("device.adopt")
def test_adopted_memory_is_the_native_memory(bench: Bench) -> None:
    device = bench.open()
    native = bench.foreign(device, 4096)
    data = bench.payload(4096)
    before = device.budget.metrics()
    adopted = device.adopt(native, label="theirs")
    bench.check(adopted.nbytes == 4096, f"an adopted buffer of 4096 bytes says it has {adopted.nbytes}")
    bench.same(contents(bench, device, adopted), np.zeros(4096, np.uint8), "adopted memory")
    with device.staging_ring(ring_count=2, buffer_size=4096) as ring:
        bench.wait(ring.upload(data, adopted))
    again = device.adopt(native)
    bench.same(contents(bench, device, again), data, "the native memory after an upload through the wrapper")
    bench.wait(device.submit(device.command_list().fill(again, 5, offset=1, nbytes=7)))
    data[1:8] = 5
    bench.same(contents(bench, device, adopted), data, "the first wrapper after a fill through the second")
    adopted.close()
    bench.same(contents(bench, device, again), data, "the native memory after its first wrapper was closed")
    again.close()
    with device.adopt(native) as third:
        bench.same(
            contents(bench, device, third), data, "the native memory after all its wrappers were closed"
        )
    device.wait_idle(bench.patience)
    after = device.budget.metrics()
    bench.check(
        after.device_local_bytes <= before.device_local_bytes,
        f"adopting and closing left {after.device_local_bytes - before.device_local_bytes} bytes reserved",
    )


@pytest.mark.clause("device.adopt")
def test_what_is_no_memory_of_the_device_is_refused(bench: Bench) -> None:
    device, other = bench.open(), bench.open()
    for stranger in (object(), "memory", 4096, None):
        with bench.raises(UsageError, f"adopt({stranger!r})"):
            device.adopt(stranger)
    native = bench.foreign(other, 256)
    try:
        adopted = device.adopt(native)
    except UsageError:
        return
    # An API whose memory belongs to no single device takes it, and then it has to work.
    bench.wait(device.submit(device.command_list().fill(adopted, 6)))
    bench.same(contents(bench, device, adopted), np.full(256, 6, np.uint8), "memory made on another device")
    adopted.close()


@pytest.mark.clause("device.adopt")
def test_closing_an_adopted_device_leaves_the_native_one_open(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    with bench.backend.adopt(device.native, DeviceOptions(drain_timeout=1.0)) as adopted:
        mine = adopted.create_buffer(256)
        bench.wait(adopted.submit(adopted.command_list().fill(mine, 3)), "work on an adopted device")
        bench.same(contents(bench, adopted, mine), np.full(256, 3, np.uint8), "memory of an adopted device")
    bench.check(adopted.closed, "an adopted device that was closed says that it is open")
    left = adopted.budget.metrics().total_bytes
    bench.check(left == 0, f"closing an adopted device left {left} bytes of ours")
    try:
        bench.wait(device.submit(device.command_list().fill(buffer, 4)), "work on the native device's owner")
        seen = contents(bench, device, buffer)
        used_on(bench, device)
    except ForgeError as error:
        bench.check(False, f"the native device does not work after its wrapper was closed: {error}")
    else:
        bench.same(seen, np.full(256, 4, np.uint8), "memory of the native device's owner")
    with bench.raises(UsageError, "adopting an object that is no device"):
        bench.backend.adopt(object(), DeviceOptions())


def used_on(bench: Bench, device: Device) -> None:
    """Make, use and close everything that an owner could, of the sizes that an allocator keeps for later."""
    kernel = device.create_kernel(bench.kernel("increment"))
    ring = device.staging_ring(ring_count=1, buffer_size=4096)
    for nbytes in (256, 4096, 1 << 20):
        with device.create_buffer(nbytes) as buffer:
            ring.upload(np.full(256, 1, np.uint8), buffer, timeout=bench.patience)
            bench.wait(device.submit(device.command_list().dispatch(kernel, [buffer], [1, 64], threads=64)))
            wanted = np.zeros(nbytes // 4, np.uint32)
            wanted[:64] = 0x01010102
            what = "memory that the native device's owner made later"
            bench.same(contents(bench, device, buffer).view(np.uint32), wanted, what)
    if "textures" in bench.capabilities:
        device.create_texture(8, 8).close()


@pytest.mark.clause("device.adopt")
def test_memory_of_any_size_is_adopted_as_it_is(bench: Bench) -> None:
    """Two wrappers of one memory see one another's writes in the order of submission."""
    device = bench.open()
    for nbytes in (4, 60, 257, 1022, 4095, 70_003):
        native = bench.foreign(device, whole(bench, nbytes))
        first, second = device.adopt(native), device.adopt(native)
        bench.check(
            first.nbytes == second.nbytes == whole(bench, nbytes),
            f"adopted memory of {whole(bench, nbytes)} bytes says it has {first.nbytes} and {second.nbytes}",
        )
        for value, lane in enumerate((*bench.lanes, *bench.lanes), 1):
            device.submit(device.command_list().fill((first, second)[value % 2], value), lane=lane)
        wanted = np.full(first.nbytes, 2 * len(bench.lanes), np.uint8)
        for wrapper in (first, second):
            what = f"{first.nbytes} adopted bytes, filled by two wrappers in turn"
            bench.same(contents(bench, device, wrapper), wanted, what)
            wrapper.close()


def whole(bench: Bench, nbytes: int) -> int:
    """Return a size that the API makes memory of itself: some have none but whole words."""
    return -(-nbytes // bench.target.limits.copy_alignment) * bench.target.limits.copy_alignment
