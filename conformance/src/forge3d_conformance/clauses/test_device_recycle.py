"""Buffers that pass their memory on."""

from __future__ import annotations

from typing import Any

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import landed, pattern, put
from forge3d_core.errors import Closed

NBYTES = 4096


@pytest.mark.clause("device.recycle")
def test_the_memory_has_one_owner_at_a_time(bench: Bench) -> None:
    device = bench.open()
    old: Any = device.create_buffer(NBYTES)
    with device.staging_ring() as ring:
        data = pattern(3, NBYTES)
        ring.upload(data, old)
    late = device.command_list().fill(old, 0xEE)
    device.wait_idle(bench.patience)
    before = device.budget.metrics()
    new = old.recycle()
    bench.check(new is not None, "a buffer that nothing uses was not recycled")
    after = device.budget.metrics()
    bench.check(
        (after.buffer_count, after.total_bytes) == (before.buffer_count, before.total_bytes),
        f"recycling changed the budget from {before!r} to {after!r}",
    )
    bench.check(old.closed, "the old buffer is still open after its memory was passed on")
    with pytest.raises(Closed):
        device.submit(late)
    old.close()
    bench.check(
        device.budget.metrics().buffer_count == before.buffer_count,
        "closing the old buffer gave back the new",
    )
    bench.check(bool((landed(bench, device, new) == data).all()), "the bytes changed as the memory passed on")
    new.close()


@pytest.mark.clause("device.recycle")
def test_not_while_work_uses_it(bench: Bench) -> None:
    device = bench.open()
    buffer: Any = device.create_buffer(NBYTES)
    with bench.hold(device) as hold:
        device.submit(device.command_list().fill(buffer, 5))
        passed = buffer.recycle()
        if hold.held:
            bench.check(passed is None, "a buffer was recycled while work in flight uses it")
            bench.check(not buffer.closed, "recycling was refused, and closed the buffer all the same")
    device.wait_idle(bench.patience)
    new = buffer.recycle() if passed is None else passed
    bench.check(new is not None, "a buffer was not recycled after the work on it was complete")
    bench.check(
        bool((landed(bench, device, new) == 5).all()), "the work on a buffer was lost as it passed on"
    )
    new.close()


@pytest.mark.clause("device.recycle")
def test_not_while_a_commit_names_it(bench: Bench) -> None:
    device = bench.open()
    buffer: Any = device.create_buffer(NBYTES)
    with device.staging_ring() as ring:
        data = pattern(7, NBYTES)
        put(ring, data, buffer)
        bench.check(buffer.recycle() is None, "a buffer was recycled while a commit that waits names it")
        ring.advance()
        device.wait_idle(bench.patience)
        new = buffer.recycle()
    bench.check(new is not None, "a buffer was not recycled after the commit was submitted")
    bench.check(
        bool((landed(bench, device, new) == data).all()), "a commit did not reach the recycled memory"
    )
    new.close()
