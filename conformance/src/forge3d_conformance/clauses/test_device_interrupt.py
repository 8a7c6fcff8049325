"""Signal handlers that raise, at any moment of any call: afterwards everything works, and all comes back."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from functools import partial

import attrs
import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.interrupting import Alarm, Interrupter, unraisable_dropped
from forge3d_conformance.clauses.staging import BLOCK, Bytes, pattern
from forge3d_conformance.violation import ClauseViolation, Inconclusive
from forge3d_conformance.waiting import pauses
from forge3d_core.errors import ForgeError
from forge3d_core.protocols import Buffer, Device, ReadbackPool, StagingRing

BYTES = BLOCK + 513
"""More than a block holds, and ragged."""

EVERY = 10**9


@attrs.define
class FakeSitePackages:
    """What a call works with. Each is made for one interrupt and closed after it."""

    bench: Bench
    device: Device
    ring: StagingRing
    pool: ReadbackPool
    target: Buffer
    data: Bytes

    def close(self) -> None:
        self.ring.close()
        self.pool.close()
        self.target.close()


def _upload(site: FakeSitePackages) -> None:
    site.ring.upload(site.data, site.target, timeout=site.bench.patience)


def _stage(site: FakeSitePackages) -> None:
    slot = site.ring.reserve(100, site.bench.patience)
    slot.view[:] = 1
    slot.commit(site.target)
    site.ring.allocate(50)  # and dropped
    site.ring.advance(site.bench.patience)


def _submit(site: FakeSitePackages) -> None:
    for lane in site.device.lanes:
        site.device.submit(site.device.command_list().fill(site.target, 2), lane=lane)
    site.device.wait_idle(site.bench.patience)


def _read(site: FakeSitePackages) -> None:
    site.pool.read(site.target).cancel()
    site.pool.read(site.target)  # and dropped
    site.pool.read(site.target).wait(site.bench.patience)


def _lease(site: FakeSitePackages) -> None:
    with site.pool.read(site.target).lease(site.bench.patience) as array:
        array.sum()


def _allocate(site: FakeSitePackages) -> None:
    site.device.create_buffer(BYTES).close()
    site.device.create_buffer(BYTES)  # and dropped


def _make(site: FakeSitePackages) -> None:
    with site.device.staging_ring(ring_count=1, buffer_size=BLOCK) as ring:
        ring.upload(site.data[:99], site.target)
    with site.device.readback_pool(max_pending_ops=1, buffer_size=BLOCK, pre_allocate=True) as pool:
        pool.read(site.target, nbytes=99).wait(site.bench.patience)


def _reserve(site: FakeSitePackages) -> None:
    with site.device.budget.reserve(BYTES):
        pass
    site.device.budget.reserve(BYTES, timeout=site.bench.patience)  # and dropped


CALLS: dict[str, tuple[Callable[[FakeSitePackages], None], int]] = {
    "upload": (_upload, 0),
    "reserve, commit and advance": (_stage, 0),
    "submit and wait": (_submit, 0),
    "read": (_read, 0),
    "lease": (_lease, 0),
    "create and close buffers": (_allocate, 2 * BYTES),
    "make, use and close a ring and a pool": (_make, 16 * BLOCK),
    "reserve from the budget": (_reserve, 2 * BYTES),
}
"""By name, with the bytes that it takes and may leave to the device: its interrupted caller has no owner."""


def _site(bench: Bench, device: Device) -> FakeSitePackages:
    ring = device.staging_ring(ring_count=2, buffer_size=BLOCK)
    pool = device.readback_pool(max_pending_ops=2, buffer_size=BLOCK, timeout=bench.patience)
    return FakeSitePackages(bench, device, ring, pool, device.create_buffer(BYTES), pattern(7, BYTES))


def _works_on(site: FakeSitePackages, key: int) -> None:
    """Use ring, pool, lanes and budget as before the interrupt."""
    bench, device, patience = site.bench, site.device, site.bench.patience
    for lane in device.lanes:
        bench.wait(device.submit(device.command_list().fill(site.target, 3), lane=lane), f"lane {lane!r}")
    data = pattern(key, BYTES)
    bench.wait(site.ring.upload(data, site.target, timeout=patience), "an upload")
    bench.same(np.asarray(site.pool.read(site.target).wait(patience)), data, "bytes after an interrupt")
    site.ring.reserve(BLOCK, patience).release()
    bench.wait(site.ring.advance(patience), "an advance")
    handles = [site.pool.read(site.target, nbytes=16) for _ in range(3)]
    for handle in handles:
        bench.same(np.asarray(handle.wait(patience)), data[:16], "bytes after an interrupt")
    site.close()
    device.wait_idle(patience)


def _left(bench: Bench, device: Device, before: int, most: int) -> int:
    """Return how many bytes are taken beyond ``before``; what is on its way back is waited for."""
    for pause in pauses(bench.patience):
        if device.budget.metrics().total_bytes - before > most:
            gc.collect()
        if (left := device.budget.metrics().total_bytes - before) <= most:
            break
        threading.Event().wait(pause)
    return left


@pytest.mark.clause("device.interrupt")
@pytest.mark.parametrize("call", CALLS)
def test_a_raising_signal_handler_costs_nothing(bench: Bench, call: str) -> None:
    device = bench.open()
    work, takes = CALLS[call]
    with unraisable_dropped():
        for _ in range(2):  # what is made once is made
            site = _site(bench, device)
            dry = Interrupter(float("inf"))
            dry.run(partial(work, site))
            site.close()
        moments = np.arange(1, dry.seen + 1)
        most = bench.scale(30, EVERY)
        if most < len(moments):
            moments = np.sort(bench.random.choice(moments, most, replace=False))
        device.wait_idle(bench.patience)
        before = device.budget.metrics().total_bytes
        for moment in moments.tolist():
            site = _site(bench, device)
            interrupter = Interrupter(moment, Alarm if moment % 3 == 0 else KeyboardInterrupt)
            what = f"after an interrupt at moment {moment} of {call!r}"
            try:
                interrupter.run(partial(work, site))
                bench.result(bench.thread(_works_on, site, moment), f"{what}, the first use")
            except (ForgeError, ClauseViolation) as error:
                if isinstance(error, Inconclusive):
                    raise
                raise ClauseViolation(f"{what} ({interrupter.place}): {error!r}") from error
            del site
            left = _left(bench, device, before, takes)
            bench.check(left <= takes, f"{what} ({interrupter.place}): {left} bytes did not come back")
            before += max(left, 0)
    bench.within(bench.patience, "close after interrupts", device.close)
