"""What the point of an advance covers."""

from __future__ import annotations

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import BLOCK, landed, pattern, put, take
from forge3d_conformance.waiting import PROMPT
from forge3d_core.errors import FenceTimeout, SliceOutstanding


@pytest.mark.clause("ring.covers")
def test_nothing_committed_submits_nothing(bench: Bench) -> None:
    device = bench.open()
    timeline = device.lanes["upload"].timeline
    ring = device.staging_ring(ring_count=2, buffer_size=BLOCK)
    target = device.create_buffer(BLOCK)
    submitted = timeline.submitted
    bench.wait(ring.advance(), "what an unused ring covers")
    take(ring, 10).release()
    bench.wait(ring.advance(), "what a ring covers that nothing was committed to")
    bench.check(timeline.submitted == submitted, "advance with nothing committed submitted something")
    put(ring, pattern(0, BLOCK), target)
    bench.wait(ring.advance())
    submitted = timeline.submitted
    bench.wait(ring.advance(), "what was complete already")
    bench.check(timeline.submitted == submitted, "advance with nothing committed submitted something")


@pytest.mark.clause("ring.covers", requires=("hold",))
def test_the_point_covers_earlier_blocks_and_other_threads(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=3, buffer_size=BLOCK)
    target = device.create_buffer(3 * BLOCK)
    with bench.hold(device, "upload") as hold:
        put(ring, pattern(0, BLOCK), target)
        first = ring.advance()
        again = ring.advance()
        bench.check(not hold.observe(lambda: again.done), "an empty advance is done before what it covers")
        bench.result(bench.thread(lambda: put(ring, pattern(1, BLOCK), target, BLOCK)))
        put(ring, pattern(2, BLOCK), target, 2 * BLOCK)  # moves on by itself
        last = ring.advance()
        bench.check(not hold.observe(lambda: last.done), "advance is done before what it covers")
    bench.wait(last)
    bench.check(first.done and again.done, "advance is done before earlier work that it covers")
    wanted = np.concatenate([pattern(key, BLOCK) for key in range(3)])
    bench.same(landed(bench, device, target), wanted, "when the point of advance is done, the device")


@pytest.mark.clause("ring.covers")
def test_open_slices_are_waited_for_or_refused(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=BLOCK)
    target = device.create_buffer(BLOCK)
    slot = take(ring, 1000)
    bench.result(bench.thread(lambda: put(ring, pattern(1, 500), target, 2000)))
    with bench.raises(SliceOutstanding, "advance over an open slice of the same thread"):
        ring.advance(0.01)
    with bench.raises(FenceTimeout, "advance over an open slice of another thread"):
        bench.within(0.01 + PROMPT, "advance(0.01)", ring.advance, 0.01)
    other = bench.thread(lambda: ring.advance(bench.patience))
    slot.view[:] = pattern(0, 1000)
    slot.commit(target)
    bench.wait(bench.result(other, "advance over a slice that is committed by now"))
    seen = landed(bench, device, target)
    bench.same(seen[:1000], pattern(0, 1000), "a slice committed while another thread advanced")
    bench.same(seen[2000:2500], pattern(1, 500), "a slice that another thread committed")
