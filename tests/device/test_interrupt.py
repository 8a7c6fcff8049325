"""An exception out of a signal handler at any moment of any kind of call: nothing is lost, nothing hangs."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import attrs
import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.readback.pool import Pool
from forge3d_core.ring.ring import Ring

STRIDE = 5
"""Each run takes every fifth moment, beginning at one that the operation's name draws: some 1100 in all."""

PATIENCE = 20.0


@attrs.define
class Chances:
    """Raises ``KeyboardInterrupt`` at the n-th moment at which CPython would run a signal's handler."""

    number: int
    seen: int = 0
    place: str = ""

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        if self.place or event not in ("call", "c_return") or frame.f_code.co_filename == __file__:
            return
        self.seen += 1
        if self.seen > self.number:
            self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
            raise KeyboardInterrupt

    def run(self, call: Callable[[], object]) -> None:
        profiler = sys.getprofile()
        sys.setprofile(self)
        try:
            call()
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(profiler)


@attrs.define
class FakeSitePackages:
    """Made for one interrupt, and closed after it; the device stays."""

    device: AssembledDevice
    ring: Ring
    pool: Pool
    buffer: DeviceBuffer

    @classmethod
    def on(cls, device: AssembledDevice) -> FakeSitePackages:
        ring = device.staging_ring(ring_count=2, buffer_size=256)
        pool = device.readback_pool(max_pending_ops=2, buffer_size=256, timeout=PATIENCE)
        return cls(device, ring, pool, device.create_buffer(300))

    def upload(self) -> None:
        self.ring.upload(np.full(300, 7, np.uint8), self.buffer, timeout=PATIENCE)

    def rows(self) -> None:
        self.ring.upload(np.full((8, 8, 4), 7, np.uint8), self.device.create_texture(8, 8), timeout=PATIENCE)

    def stage(self) -> None:
        slot = self.ring.reserve(100, PATIENCE)
        slot.view[:] = 3
        slot.commit(self.buffer)
        self.ring.advance(PATIENCE)

    def let_go(self) -> None:
        slot = self.ring.allocate(100)
        assert slot is not None
        slot.array("u1", (10, 10))[:] = 1
        slot.release()
        self.ring.allocate(156)
        self.ring.advance(PATIENCE)

    def many(self) -> None:
        data = np.full(40, 9, np.uint8)
        self.ring.upload_many([(data, self.buffer, place * 40) for place in range(7)], timeout=PATIENCE)

    def submit(self) -> None:
        self.device.submit(self.device.command_list().fill(self.buffer, 5))
        self.device.wait_idle(PATIENCE)

    def read(self) -> None:
        self.pool.read(self.buffer).cancel()
        self.pool.read(self.buffer)
        self.pool.read(self.buffer).wait(PATIENCE)

    def lease(self) -> None:
        with self.pool.read(self.buffer).lease(PATIENCE) as array:
            array.sum()

    def allocate(self) -> None:
        self.device.create_buffer(300).close()
        self.device.create_buffer(300)
        self.device.adopt(np.zeros(16, np.uint8)).close()

    def make(self) -> None:
        with self.device.staging_ring(ring_count=2, buffer_size=64) as ring:
            ring.upload(np.ones(50, np.uint8), self.buffer)
        self.device.staging_ring(ring_count=1, buffer_size=64)
        with self.device.readback_pool(max_pending_ops=2, pre_allocate=True) as pool:
            pool.read(self.buffer).wait(PATIENCE)

    def reserve(self) -> None:
        with self.device.budget.reserve(100):
            pass
        self.device.budget.reserve(100, timeout=PATIENCE)

    def works(self, key: int) -> None:
        """Use ring and pool as if nothing had been, then close them."""
        data = np.random.default_rng(key).integers(0, 256, 300, np.uint8)
        self.ring.upload(data, self.buffer, timeout=PATIENCE)
        assert (self.pool.read(self.buffer).wait(PATIENCE) == data).all()
        self.ring.reserve(256, PATIENCE).release()
        self.ring.advance(PATIENCE)
        assert self.pool.stats().pending_operations <= 1
        self.ring.close()
        self.pool.close()
        self.buffer.close()
        self.device.wait_idle(PATIENCE)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[AssembledDevice]:
    monkeypatch.setattr(sys, "unraisablehook", lambda _passed_over: None)  # pytest would keep the frames
    with assemble(HostDriver(HostMachine())) as made:
        yield made
        gc.collect()


RINGS = ("upload", "rows", "many", "stage", "let_go")
CALLS = (*RINGS, "submit", "read", "lease", "allocate", "make", "reserve")


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_at_any_moment_costs_nothing(
    device: AssembledDevice, background: Callable[..., Any], call: str
) -> None:
    for _ in range(2):  # what is made once is made
        site = FakeSitePackages.on(device)
        getattr(site, call)()
        site.works(0)
    device.wait_idle(PATIENCE)
    number = random.Random(call).randrange(STRIDE)
    while True:
        site = FakeSitePackages.on(device)
        chances = Chances(number)
        chances.run(getattr(site, call))
        what = f"{call}, interrupted at chance {number}, {chances.place}"
        try:
            background(site.works, number).result(PATIENCE)
        except Exception as error:
            raise AssertionError(what) from error
        del site
        if device.budget.metrics().total_bytes:
            gc.collect()
        assert device.budget.metrics().total_bytes == 0, what
        if not chances.place:
            assert number > STRIDE, "there was no moment to interrupt"
            return
        number += STRIDE
