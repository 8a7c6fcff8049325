from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Closed, OutOfDeviceMemory, TooLarge, UsageError
from forge3d_core.host.driver import HostDriver
from forge3d_core.pooling import BufferPool
from forge3d_core.protocols import Buffer, Device

PATIENCE = 20.0
KIB = 1024


def content(device: Device, buffer: Buffer) -> np.ndarray[Any, Any]:
    with device.readback_pool() as pool:
        return pool.read(buffer).wait(PATIENCE)


def buffers(device: Device) -> int:
    """Return how many the budget counts once the device has done all that it was given."""
    device.wait_idle(PATIENCE)
    return device.budget.metrics().buffer_count


def scribble(device: Device, buffer: Buffer, value: int = 0xAA) -> None:
    device.submit(device.command_list().fill(buffer, value)).wait(PATIENCE)


def test_what_was_given_back_is_handed_out_again(any_device: Device) -> None:
    with BufferPool(any_device) as pool:
        first = pool.acquire(5000)
        assert (first.nbytes, first.capacity, first.buffer.nbytes) == (5000, 5120, 5120)
        before = any_device.budget.metrics()
        first.release()
        first.release()  # does nothing
        with pool.acquire(4900) as again:
            assert again.capacity == 5120
        stats = pool.stats()
        assert (stats.hits, stats.misses, stats.idle, stats.leases) == (1, 1, 1, 0)
        assert any_device.budget.metrics().device_local_bytes == before.device_local_bytes
    assert buffers(any_device) == 0


def test_it_never_shows_old_bytes(any_device: Device) -> None:
    with BufferPool(any_device) as pool:
        with pool.acquire(5000) as lease:
            scribble(any_device, lease.buffer)
        with pool.acquire(4990) as lease:
            assert not content(any_device, lease.buffer).any()  # what lies past the 4990 too
        assert pool.stats().zeroings == 1


def test_one_who_overwrites_all_need_not_wait_for_zeros(any_device: Device) -> None:
    with BufferPool(any_device) as pool:
        pool.acquire(4096).release()
        with pool.acquire(4096, overwrite=True) as lease:
            scribble(any_device, lease.buffer, 7)
            assert (content(any_device, lease.buffer) == 7).all()
        assert (pool.stats().hits, pool.stats().zeroings) == (1, 0)


def test_a_lease_that_was_released_is_spent(any_device: Device) -> None:
    with BufferPool(any_device) as pool:
        lease = pool.acquire(64)
        lease.release()
        assert lease.released
        with pytest.raises(Closed, match="acquire another"):
            _ = lease.buffer


def test_the_old_name_of_a_buffer_reaches_nothing_of_the_new_owner(device: AssembledDevice) -> None:
    with BufferPool(device) as pool:
        lease = pool.acquire(4096)
        kept = lease.buffer
        late = device.command_list().fill(kept, 0xEE)
        lease.release()
        with pool.acquire(4096) as mine:
            assert pool.stats().hits == 1
            with pytest.raises(Closed):
                device.submit(late)
            with pytest.raises(Closed):
                device.command_list().fill(kept, 0xEE)
            kept.close()  # does nothing any more
            assert not content(device, mine.buffer).any()


def test_a_commit_that_waits_keeps_the_buffer_from_the_next(device: AssembledDevice) -> None:
    with BufferPool(device) as pool, device.staging_ring() as ring:
        lease = pool.acquire(64)
        slot = ring.reserve(64)
        slot.view[:] = 0xDD
        slot.commit(lease.buffer)
        lease.release()
        with pool.acquire(64) as other:
            assert pool.stats().misses == 2
            ring.advance().wait(PATIENCE)
            assert not content(device, other.buffer).any()
        with pool.acquire(64), pool.acquire(64):
            assert pool.stats().hits == 2


def test_one_that_is_in_use_stands_in_the_way_of_no_other(device: AssembledDevice) -> None:
    with BufferPool(device) as pool:
        busy, free = pool.acquire(4096), pool.acquire(4096)
        with device.native.hold("download"):
            device.submit(device.command_list().fill(busy.buffer, 1), lane="download")
            busy.release()
            free.release()
            with pool.acquire(4096):
                assert (pool.stats().hits, pool.stats().misses, pool.stats().idle) == (1, 2, 1)
                with pool.acquire(4096):
                    assert pool.stats().misses == 3  # the other is still in use
        device.wait_idle(PATIENCE)
        with pool.acquire(4096), pool.acquire(4096), pool.acquire(4096):
            assert pool.stats().misses == 3


def test_a_point_that_is_given_says_when_a_strangers_buffer_is_free(any_device: Device) -> None:
    with BufferPool(any_device) as pool:
        lease = pool.acquire(256)
        point = any_device.submit(any_device.command_list().fill(lease.buffer, 1))
        lease.release([point])
        point.wait(PATIENCE)
        with pool.acquire(256):
            assert pool.stats().hits == 1


def test_exact_ones_have_a_class_of_their_own(any_device: Device) -> None:
    with BufferPool(any_device) as pool:
        pool.acquire(5000).release()
        with pool.acquire(5000, exact=True) as lease:
            assert lease.buffer.nbytes == 5000
            assert pool.stats().hits == 0
        with pool.acquire(5000, exact=True):
            assert pool.stats().hits == 1


def test_what_is_idle_too_long_goes_back(any_device: Device, clock: Any) -> None:
    with BufferPool(any_device, max_age=10.0, clock=clock) as pool:
        old, new = pool.acquire(4096), pool.acquire(4096)
        old.release()
        clock.now += 8
        new.release()
        clock.now += 8
        pool.acquire("1 MiB").release()
        stats = pool.stats()
        assert (stats.trimmed, stats.bytes_idle) == (1, 4096 + 2**20)
        any_device.wait_idle(PATIENCE)
        assert any_device.budget.metrics().buffer_bytes == stats.bytes_held


def test_the_one_used_last_goes_out_first_so_that_others_grow_old(any_device: Device, clock: Any) -> None:
    with BufferPool(any_device, max_age=10.0, clock=clock) as pool:
        leases = [pool.acquire(4096) for _ in range(5)]
        for lease in leases:
            lease.release()
        any_device.wait_idle(PATIENCE)
        for _ in range(12):
            clock.now += 1.0
            pool.acquire(4096).release()
            any_device.wait_idle(PATIENCE)
        assert (pool.stats().idle, pool.stats().trimmed) == (1, 4)


def test_what_is_idle_has_a_limit(any_device: Device) -> None:
    with BufferPool(any_device, max_idle=8 * KIB) as pool:
        for lease in [pool.acquire(4096) for _ in range(5)]:
            lease.release()
        assert pool.stats().bytes_idle == 8 * KIB
        assert pool.trim(1) == 4096
        assert pool.trim() == 4096
        assert pool.trim() == 0


def test_when_the_device_has_no_more_memory_idle_buffers_go_back(
    device: AssembledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 10_000
    allocate = HostDriver.allocate_buffer

    def scarce(driver: HostDriver, nbytes: int) -> Any:
        if device.budget.metrics().device_local_bytes > room:  # what is being taken is in it
            raise OutOfDeviceMemory("none left")
        return allocate(driver, nbytes)

    monkeypatch.setattr(HostDriver, "allocate_buffer", scarce)
    with BufferPool(device) as pool:
        for lease in [pool.acquire(6144), pool.acquire(2048)]:
            lease.release()
        device.create_buffer(6000).close()  # asked for the pool's
        assert pool.stats().trimmed == 1
        with pool.acquire(9000):
            assert pool.stats().trimmed == 2
            with pytest.raises(OutOfDeviceMemory):
                pool.acquire(4096)
    assert device.budget.metrics().device_local_bytes == 0


def test_refused_and_closed(any_device: Device) -> None:
    pool = BufferPool(any_device)
    with pytest.raises(UsageError):
        pool.acquire(0)
    with pytest.raises(TooLarge):
        pool.acquire(any_device.limits.max_buffer_size + 1)
    lease = pool.acquire(100)
    pool.close()
    pool.close()
    with pytest.raises(Closed, match="make another"):
        pool.acquire(100)
    assert buffers(any_device) == 1
    lease.release()
    assert buffers(any_device) == 0


def test_a_device_that_closed(any_device: Device) -> None:
    pool = BufferPool(any_device)
    pool.acquire(100).release()
    lease = pool.acquire(100)
    any_device.close()
    with pytest.raises(Closed, match="device"):
        pool.acquire(100)
    lease.release()
    assert pool.stats().bytes_held == 0


def test_a_lease_that_is_dropped_costs_nothing(device: AssembledDevice) -> None:
    with BufferPool(device) as pool:
        pool.acquire(4096)
        assert pool.stats().leases == 0
        assert buffers(device) == 0


def test_a_pool_that_is_dropped_is_asked_no_more(device: AssembledDevice) -> None:
    pool = BufferPool(device)
    pool.acquire(4096).release()
    del pool
    assert device.budget.device_caches.give_back(1) == 0
    assert buffers(device) == 0


def test_a_buffer_that_its_holder_closed_is_not_handed_out(any_device: Device) -> None:
    with BufferPool(any_device) as pool:
        lease = pool.acquire(4096)
        kept = lease.buffer
        lease.release()
        kept.close()
        with pool.acquire(4096) as again:
            assert not content(any_device, again.buffer).any()


def test_threads_share_a_pool_and_no_bytes(
    any_device: Device, background: Callable[..., Future[Any]]
) -> None:
    with BufferPool(any_device) as pool:

        def work(seed: int) -> int:
            draw = np.random.default_rng(seed)
            with any_device.readback_pool() as reads, any_device.staging_ring() as ring:
                for _ in range(40):
                    size = int(draw.integers(1, 3)) * 1000
                    with pool.acquire(size) as lease:
                        assert not reads.read(lease.buffer).wait(PATIENCE).any(), f"seed {seed}"
                        ring.upload(np.full(lease.capacity, 1 + seed, np.uint8), lease.buffer)
                        read = reads.read(lease.buffer)
                    assert (read.wait(PATIENCE) == 1 + seed).all(), f"seed {seed}"
            return seed

        assert [work.result(4 * PATIENCE) for work in [background(work, n) for n in range(4)]] == [0, 1, 2, 3]
        stats = pool.stats()
        assert (stats.hits + stats.misses, stats.leases) == (160, 0)
        assert stats.hits > 100
        any_device.wait_idle(PATIENCE)
        assert any_device.budget.metrics().buffer_bytes == stats.bytes_held
    assert any_device.budget.metrics().buffer_bytes == 0
