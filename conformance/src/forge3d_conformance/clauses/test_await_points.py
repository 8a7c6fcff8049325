"""Coroutines that end at an await point: nothing is kept, nothing hangs, and the next call is served."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, cast

import attrs
import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.await_points import Make, sweep
from forge3d_conformance.clauses.sources import all_of, stamped, take
from forge3d_conformance.clauses.staging import pattern
from forge3d_core.protocols import AsyncRing, Buffer, Device, ReadbackPool

LARGE = 200_000
"""More than is copied on a loop's own thread."""


@attrs.define(eq=False)
class Reading:
    """Coroutines that read with pools of one block, each way of ending with one of its own."""

    bench: Bench
    device: Device
    nbytes: int
    first: Buffer = attrs.field(init=False)
    second: Buffer = attrs.field(init=False)
    pools: list[ReadbackPool] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.first, self.second = stamped(self.bench, self.device, [1, 2], self.nbytes)

    def pool(self) -> ReadbackPool:
        pool = self.device.readback_pool(max_pending_ops=1, timeout=None, buffer_size=self.nbytes)
        self.pools.append(pool)
        return pool

    def point(self) -> Make:
        pool = self.pool()

        async def one() -> None:
            await pool.read(self.first).point

        return one

    def handle(self) -> Make:
        pool = self.pool()

        async def one() -> None:
            await pool.read(self.first)

        return one

    def read_async(self) -> Make:
        pool = self.pool()

        async def one() -> None:
            earlier = pool.read(self.first)
            array = await (await pool.read_async(self.second))
            self.bench.same(array, all_of(2, self.nbytes), "a read that waited in line")
            self.bench.same(await earlier, all_of(1, self.nbytes), "the read before it")

        return one

    def read_many_async(self) -> Make:
        pool: Any = self.pool()

        async def one() -> None:
            earlier = pool.read(self.first)
            (late,) = await pool.read_many_async([self.second])
            await late
            await earlier

        return one

    def async_with(self) -> Make:
        async def one() -> None:
            async with self.device.readback_pool(max_pending_ops=1, buffer_size=self.nbytes) as pool:
                await (await pool.read_async(self.first))

        return one

    def check(self) -> None:
        """See that each pool has its block, and that it serves the next read."""
        for pool in self.pools:
            self.bench.until(
                lambda: not pool.stats().pending_operations or (gc.collect() and False),  # noqa: B023
                "the end of reads whose coroutine ended",
            )
            read = self.bench.thread(pool.read, self.second)
            seen = take(self.bench, self.bench.result(read, "a read after a coroutine that ended"))
            self.bench.same(seen, all_of(2, self.nbytes), "a read after a coroutine that ended")


@pytest.mark.clause("readback.await-points")
def test_a_read_that_ends_at_an_await(bench: Bench) -> None:
    device = bench.open()
    readings = [Reading(bench, device, nbytes) for nbytes in (1000, LARGE)]
    many = hasattr(readings[0].pool(), "read_many_async")
    forms = ["point", "handle", "read_async", "async_with", *(["read_many_async"] if many else [])]
    makes: dict[str, Callable[[], Make]] = {
        f"{form} of {reading.nbytes} bytes": getattr(reading, form) for reading in readings for form in forms
    }
    charged: list[int] = []

    def after() -> None:
        for reading in readings:
            reading.check()
        bench.until(
            lambda: _host_bytes(device) <= charged[0] or (gc.collect() and False),
            "the bytes that coroutines which ended kept of the budget",
        )

    def hold(seconds: float) -> Any:
        if not charged:
            charged.append(_host_bytes(device))
        return bench.hold(device, "download", seconds)

    sweep(bench, hold, makes, after)


@attrs.define(eq=False)
class Uploading:
    """Coroutines that upload through rings of two blocks, each way of ending with one of its own."""

    bench: Bench
    device: Device
    nbytes: int
    data: Any = attrs.field(init=False)
    target: Buffer = attrs.field(init=False)
    rings: list[AsyncRing] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.data, self.target = pattern(3, self.nbytes), self.device.create_buffer(self.nbytes)

    def ring(self) -> AsyncRing:
        ring = _ring(self.device, 2, self.nbytes // 2)
        self.rings.append(ring)
        return ring

    def upload_async(self) -> Make:
        ring = self.ring()

        async def one() -> None:
            for _ in range(2):
                await (await ring.upload_async(self.data, self.target, timeout=self.bench.patience))

        return one

    def reserve_async(self) -> Make:
        ring = self.ring()

        async def one() -> None:
            for _ in range(3):
                slot = await ring.reserve_async(ring.buffer_size, self.bench.patience)
                slot.view[:] = 1
                slot.commit(self.target)
                await ring.advance_async(self.bench.patience)

        return one

    def async_with(self) -> Make:
        async def one() -> None:
            async with _ring(self.device, 1, 4096) as ring:
                await (await ring.upload_async(self.data[:4096], self.target))

        return one

    def check(self) -> None:
        """See that each ring has all its room, and that it serves the next upload."""
        for ring in self.rings:
            served = self.bench.thread(self._fill, ring)
            self.bench.until(
                lambda: served.done() or (gc.collect() and False),  # noqa: B023
                "the whole room of a ring after coroutines that ended",
            )
            self.bench.result(served)
        with self.device.readback_pool(max_pending_ops=1, pre_allocate=False) as pool:
            seen = take(self.bench, pool.read(self.target))
            self.bench.same(seen, self.data, "an upload after coroutines that ended")

    def _fill(self, ring: AsyncRing) -> None:
        for _ in range(2 * ring.ring_count):
            slot = ring.reserve(ring.buffer_size, self.bench.patience)
            slot.view[:] = 9
            slot.commit(self.target)
            ring.advance(self.bench.patience)
        ring.upload(self.data, self.target, timeout=self.bench.patience).wait(self.bench.patience)


@pytest.mark.clause("ring.async")
def test_an_upload_that_ends_at_an_await(bench: Bench) -> None:
    device = bench.open()
    uploadings = [Uploading(bench, device, nbytes) for nbytes in (8192, LARGE)]
    makes: dict[str, Callable[[], Make]] = {
        f"{form} of {uploading.nbytes} bytes": getattr(uploading, form)
        for uploading in uploadings
        for form in ("upload_async", "reserve_async", "async_with")
    }
    charged: list[int] = []

    def after() -> None:
        for uploading in uploadings:
            uploading.check()
        bench.until(
            lambda: _host_bytes(device) <= charged[0] or (gc.collect() and False),
            "the bytes that coroutines which ended kept of the budget",
        )

    def hold(seconds: float) -> Any:
        if not charged:
            charged.append(_host_bytes(device))
        return bench.hold(device, "upload", seconds)

    sweep(bench, hold, makes, after)


@pytest.mark.clause("ring.async", requires=["async_ring"])
def test_the_source_is_the_callers_again_after_the_await(bench: Bench) -> None:
    device = bench.open()
    ring = _ring(device, 3, LARGE)
    sizes = [1, 100, 4096, LARGE, 3 * LARGE + 1]
    targets = [device.create_buffer(nbytes) for nbytes in sizes]

    async def sent() -> None:
        for number, target in enumerate(targets):
            data = pattern(number, target.nbytes)
            point = await ring.upload_async(data, target, timeout=bench.patience)
            data[:] = 255
            await point

    bench.run(sent(), "uploads of many sizes")
    with device.readback_pool(max_pending_ops=1, pre_allocate=False) as pool:
        for number, target in enumerate(targets):
            seen = take(bench, pool.read(target))
            bench.same(seen, pattern(number, target.nbytes), f"an upload of {target.nbytes} bytes")


@pytest.mark.clause("ring.async", requires=["async_ring"])
def test_an_error_in_an_upload_is_raised_where_it_is_awaited(bench: Bench) -> None:
    device = bench.open()
    ring = _ring(device, 1, 4096)
    target = device.create_buffer(4096)
    before = ring.stats()

    async def refused() -> None:
        for wrong in (4097, 1 << 20):
            with bench.raises(ValueError, "an upload that does not fit its target"):
                await ring.upload_async(np.zeros(wrong, np.uint8), target, timeout=bench.patience)

    bench.run(refused(), "an upload that is refused")
    bench.check(ring.stats() == before, "an upload that was refused changed the ring's figures")


def _ring(device: Device, count: int, nbytes: int) -> AsyncRing:
    return cast(AsyncRing, device.staging_ring(ring_count=count, buffer_size=nbytes))


def _host_bytes(device: Device) -> int:
    return device.budget.metrics().host_visible_bytes
