"""A pool beside a model: what it holds, hands out and gives back, after every step."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forge3d_core.device.device import assemble
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.host.options import parse_selector
from forge3d_core.pooling import BufferPool, PooledBuffer, capacity_of

SIZES = some.sampled_from([1, 16, 1000, 1024, 1030, 4096, 5000])


class PoolModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.device = assemble(HostDriver(HostMachine(parse_selector("")), selector="0"))
        self.now = 0.0
        self.pool = BufferPool(self.device, max_age=None, clock=lambda: self.now)
        self.out: list[tuple[PooledBuffer, int]] = []
        self.idle: dict[int, int] = {}
        self.hits = self.misses = 0
        self.hold: Any = None

    def read(self, lease: PooledBuffer) -> np.ndarray[Any, Any]:
        with self.device.readback_pool() as reads:
            return reads.read(lease.buffer).wait(20)

    @rule(size=SIZES, value=some.integers(1, 255))
    @precondition(lambda self: self.hold is None)
    def acquire(self, size: int, value: int) -> None:
        self.device.wait_idle(20)
        capacity = capacity_of(size)
        if self.idle.get(capacity):
            self.idle[capacity] -= 1
            self.hits += 1
        else:
            self.misses += 1
        lease = self.pool.acquire(size)
        assert lease.capacity == capacity
        assert not self.read(lease).any()
        self.device.submit(self.device.command_list().fill(lease.buffer, value))
        self.out.append((lease, value))

    @rule(size=SIZES)
    @precondition(lambda self: self.hold is not None)
    def acquire_while_the_device_is_held(self, size: int) -> None:
        """What was given back before the hold may come; what is in use behind it may not."""
        before = self.pool.stats()
        lease = self.pool.acquire(size, overwrite=True)
        if self.pool.stats().hits > before.hits:
            self.idle[lease.capacity] -= 1
            self.hits += 1
            assert all(other.buffer is not lease.buffer for other, _ in self.out)
        else:
            self.misses += 1
        self.out.append((lease, -1))

    @rule(data=some.data())
    @precondition(lambda self: self.out)
    def release(self, data: some.DataObject) -> None:
        lease, value = self.out.pop(data.draw(some.integers(0, len(self.out) - 1)))
        if self.hold is None and value >= 0:
            assert (self.read(lease) == value).all()
        self.idle[lease.capacity] = self.idle.get(lease.capacity, 0) + 1
        lease.release()
        self.now += 1

    @rule()
    @precondition(lambda self: self.hold is None and self.out)
    def begin_to_hold(self) -> None:
        self.hold = self.device.native.hold("compute")
        lease, _ = self.out[0]
        self.device.submit(self.device.command_list().fill(lease.buffer, 3))
        self.out[0] = lease, 3

    @rule()
    @precondition(lambda self: self.hold is not None)
    def end_to_hold(self) -> None:
        self.hold.release()
        self.hold = None

    @rule()
    def trim(self) -> None:
        assert self.pool.trim() == sum(size * count for size, count in self.idle.items())
        self.idle.clear()

    @invariant()
    def figures_are_the_models(self) -> None:
        stats = self.pool.stats()
        assert (stats.hits, stats.misses) == (self.hits, self.misses)
        assert stats.leases == len(self.out)
        assert stats.bytes_asked == sum(lease.nbytes for lease, _ in self.out)
        assert stats.bytes_leased == sum(lease.capacity for lease, _ in self.out)
        assert stats.bytes_idle == sum(size * count for size, count in self.idle.items())
        assert stats.idle == sum(self.idle.values())
        if self.hold is None:
            self.device.wait_idle(20)
            assert self.device.budget.metrics().device_local_bytes == stats.bytes_held

    def teardown(self) -> None:
        if self.hold is not None:
            self.hold.release()
        for lease, _ in self.out:
            lease.release()
        self.pool.close()
        self.device.wait_idle(20)
        assert self.device.budget.metrics().total_bytes == 0
        self.device.close()


TestPoolModel = PoolModel.TestCase
TestPoolModel.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
