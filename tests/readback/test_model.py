"""The pool against a model of it."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forge3d_core.device.device import assemble
from forge3d_core.errors import Busy, Cancelled
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine

from .source import poke


class PoolModel(RuleBasedStateMachine):
    """A pool of three blocks that raises when busy, on a lane that opens when the model says so."""

    DEPTH, SIZE = 3, 1 << 13

    def __init__(self) -> None:
        super().__init__()
        self.machine = HostMachine()
        self.device = assemble(HostDriver(self.machine))
        self.pool = self.device.readback_pool(
            max_pending_ops=self.DEPTH, backpressure="raise", buffer_size=512
        )
        self.buffer = self.device.create_buffer(self.SIZE)
        self.content = np.random.default_rng(0).integers(0, 256, self.SIZE, dtype=np.uint8)
        poke(self.buffer, self.content)
        self.hold = self.machine.hold("download")
        self.flying: list[Any] = []  # (handle, expected), the device is not done
        self.ready: list[Any] = []  # complete, block held, oldest first
        self.cancelled = 0  # flying, given up
        self.landed: list[Any] = []
        self.leased: list[Any] = []
        self.total = self.completed = self.given_up = self.waits = self.nbytes = 0

    def teardown(self) -> None:
        for lease, _ in self.leased:
            lease.release()
        self.hold.release()
        self.device.close()

    def holding(self) -> int:
        return len(self.flying) + len(self.ready) + self.cancelled + len(self.leased)

    def land(self, which: int) -> None:
        handle, expected = self.ready.pop(which)
        self.landed.append((handle, expected))
        self.completed += 1
        self.nbytes += len(expected)

    @rule(offset=st.integers(0, 4000), nbytes=st.integers(1, 4000))
    def read(self, offset: int, nbytes: int) -> None:
        expected = self.content[offset : offset + nbytes].copy()
        full = self.holding() == self.DEPTH
        if full and self.ready:
            self.land(0)  # the oldest complete read makes room
        elif full:
            self.waits += 1
            with pytest.raises(Busy):
                self.pool.read(self.buffer, offset=offset, nbytes=nbytes)
            return
        self.flying.append((self.pool.read(self.buffer, offset=offset, nbytes=nbytes), expected))
        self.total += 1

    @precondition(lambda self: self.flying or self.cancelled)
    @rule()
    def complete(self) -> None:
        self.hold.release()
        self.device.wait_idle(20)
        self.hold = self.machine.hold("download")
        self.ready += self.flying
        self.flying, self.cancelled = [], 0

    @rule(value=st.integers(0, 255))
    def overwrite(self, value: int) -> None:
        if self.flying or self.cancelled:
            return  # it would wait for the reads
        self.device.submit(self.device.command_list().fill(self.buffer, value, nbytes=100)).wait(20)
        self.content[:100] = value

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 9), drop=st.booleans())
    def give_up(self, which: int, drop: bool) -> None:
        handle, _ = self.flying.pop(which % len(self.flying))
        if not drop:
            handle.cancel()
            with pytest.raises(Cancelled):
                handle.wait(0)
        del handle
        gc.collect(0)
        self.cancelled += 1
        self.given_up += 1

    @precondition(lambda self: self.ready)
    @rule(which=st.integers(0, 9))
    def take(self, which: int) -> None:
        which %= len(self.ready)
        handle, _ = self.ready[which]
        self.land(which)
        assert handle.try_get() is handle.wait(0)

    @precondition(lambda self: self.ready)
    @rule(which=st.integers(0, 9))
    def lease(self, which: int) -> None:
        handle, expected = self.ready.pop(which % len(self.ready))
        self.leased.append((handle.lease(0), expected))
        self.completed += 1
        self.nbytes += len(expected)

    @precondition(lambda self: self.leased)
    @rule(which=st.integers(0, 9))
    def release(self, which: int) -> None:
        self.leased.pop(which % len(self.leased))[0].release()

    @invariant()
    def every_byte_is_right(self) -> None:
        for handle, _ in self.flying:
            assert handle.try_get() is None
        for handle, expected in self.landed:
            assert (handle.wait(0) == expected).all()
        for lease, expected in self.leased:
            assert (lease.array == expected).all()
        assert all(handle.is_complete for handle, _ in (*self.ready, *self.landed))

    @invariant()
    def stats_are_the_models(self) -> None:
        stats = self.pool.stats()
        assert stats.pending_operations == self.holding() <= self.DEPTH
        assert (stats.total_operations, stats.completed_operations) == (self.total, self.completed)
        assert (stats.cancelled_operations, stats.waits) == (self.given_up, self.waits)
        assert stats.bytes_read == self.nbytes
        assert stats.blocks <= self.DEPTH
        assert self.device.budget.metrics().host_visible_bytes == stats.block_bytes


TestPoolModel = PoolModel.TestCase
TestPoolModel.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
