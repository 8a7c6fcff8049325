"""Whose a slice is that one thread allocates and another commits."""

from __future__ import annotations

import queue
import threading

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import BLOCK, landed, pattern, take
from forge3d_core.errors import FenceTimeout, SliceOutstanding
from forge3d_core.protocols import Buffer, StagingRing, StagingSlice

Handed = queue.SimpleQueue[StagingSlice]
SLICES = 6


def _commit(bench: Bench, handed: Handed, ring: StagingRing, target: Buffer) -> None:
    """Commit what comes by the queue, once its allocator has begun to wait for it."""
    bench.until(lambda: ring.stats().buffer_stalls, "a reserve that waits for slices that were handed over")
    for key in range(SLICES):
        slot = handed.get(timeout=bench.patience)
        slot.view[:] = pattern(key, BLOCK)
        slot.commit(target, key * BLOCK)


@pytest.mark.clause("ring.handover")
def test_one_thread_allocates_and_another_commits(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=BLOCK)
    target = device.create_buffer(SLICES * BLOCK)
    handed: Handed = queue.SimpleQueue()
    other = bench.thread(_commit, bench, handed, ring, target)
    for _ in range(SLICES):
        try:
            handed.put(ring.reserve(BLOCK, bench.patience))
        except SliceOutstanding as error:
            bench.check(False, f"reserve refused to wait for a slice that was handed over: {error}")
    bench.result(other, "a thread that commits what it is handed")
    bench.wait(ring.advance(bench.patience))
    wanted = np.concatenate([pattern(key, BLOCK) for key in range(SLICES)])
    bench.same(landed(bench, device, target), wanted, "slices that another thread committed")


@pytest.mark.clause("ring.handover")
def test_advance_waits_for_what_was_handed_over(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=BLOCK)
    target = device.create_buffer(BLOCK)
    handed: Handed = queue.SimpleQueue()
    go = threading.Event()

    def commit() -> None:
        slot = handed.get(timeout=bench.patience)
        go.wait(bench.patience)
        slot.view[:] = pattern(1, BLOCK)
        slot.commit(target)

    other = bench.thread(commit)
    handed.put(take(ring, BLOCK))
    with bench.raises(FenceTimeout, "advance over a slice that was handed over"):
        ring.advance(0.01)
    go.set()
    bench.wait(ring.advance(bench.patience), "advance over a slice that was handed over")
    bench.result(other, "a thread that commits what it is handed")
    bench.same(landed(bench, device, target), pattern(1, BLOCK), "a slice that another thread committed")


@pytest.mark.clause("ring.handover")
def test_a_slice_that_its_new_holder_drops_is_gone(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=1, buffer_size=BLOCK)
    handed: Handed = queue.SimpleQueue()
    handed.put(take(ring, BLOCK))
    bench.result(bench.thread(lambda: handed.get().nbytes), "a thread that drops what it is handed")
    try:
        ring.advance(bench.patience)
        ring.reserve(BLOCK, bench.patience).release()
    except (SliceOutstanding, FenceTimeout) as error:
        bench.check(False, f"a slice that its new holder dropped still counts: {error}")


@pytest.mark.clause("ring.handover")
def test_the_plain_mistake_is_told_at_once(bench: Bench) -> None:
    """Beside another thread, which has nothing to do with the slice."""
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=BLOCK)
    leave = threading.Event()
    bench.thread(leave.wait, 2 * bench.patience)
    slot = take(ring, BLOCK)
    try:
        with bench.raises(SliceOutstanding, "advance over a slice that this thread alone has"):
            ring.advance(bench.patience)
    finally:
        leave.set()
    slot.release()
