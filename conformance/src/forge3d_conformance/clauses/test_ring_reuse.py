"""When a block of the ring may be used again, and who gets it then."""

from __future__ import annotations

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import BLOCK, EARLY, landed, painted, pattern, put
from forge3d_core.errors import FenceTimeout
from forge3d_core.protocols import StagingRing


def _nothing_to_be_had(bench: Bench, ring: StagingRing) -> None:
    """A ring in flight gives nothing; asked on a thread, as a wait for the device would never end."""
    for nbytes in (1, BLOCK):
        slot = bench.result(bench.thread(lambda: ring.allocate(nbytes)), f"allocate({nbytes})")  # noqa: B023
        bench.check(slot is None, f"a block in flight {EARLY}, by allocate({nbytes})")
    with bench.raises(FenceTimeout, f"reserve: a block in flight {EARLY}"):
        ring.reserve(1, 0.01)


@pytest.mark.clause("ring.no-reuse-before-signal")
@pytest.mark.parametrize(  # every block is the first to come back, and the first block also on a later lap
    ("lane", "earlier", "count"),
    [
        *(("upload", earlier, 3) for earlier in range(4)),
        ("compute", 1, 3),
        ("upload", 1, 1),
        ("upload", 3, 2),
        ("upload", 8, 8),
    ],
)
def test_blocks_in_flight_are_not_handed_out(bench: Bench, lane: str, earlier: int, count: int) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=count, buffer_size=BLOCK, lane=lane)
    target = device.create_buffer((earlier + count + 1) * BLOCK)
    pieces = [pattern(key, BLOCK) for key in range(earlier + count)]
    for key in range(earlier):
        put(ring, pieces[key], target, key * BLOCK)
        bench.wait(ring.advance())
    with bench.hold(device, lane) as hold:
        for key in range(earlier, earlier + count):
            hold.observe(put, ring, pieces[key], target, key * BLOCK)
            point = ring.advance()
        hold.observe(_nothing_to_be_had, bench, ring)
    # Whoever waits writes as soon as there is room: what was staged must be out by then.
    for _ in range(count + 1):
        slot = ring.reserve(BLOCK, bench.patience)
        slot.view[:] = 0xEE
        slot.commit(target, len(pieces) * BLOCK)
        last = ring.advance(bench.patience)
    bench.wait(point)
    bench.wait(last)
    seen = landed(bench, device, target)[: len(pieces) * BLOCK]
    bench.same(seen, np.concatenate(pieces), f"a block {EARLY}: the device")


@pytest.mark.clause("ring.no-reuse-before-signal")
def test_a_block_in_flight_waits_for_other_lanes_too(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=BLOCK)
    target = device.create_buffer(2 * BLOCK)
    with bench.hold(device, "compute") as hold:
        device.submit(device.command_list().fill(target, 9), lane="compute")
        for key in range(2):
            put(ring, pattern(key, BLOCK), target, key * BLOCK)
            point = ring.advance()
        hold.observe(_nothing_to_be_had, bench, ring)
    for _ in range(2):
        slot = ring.reserve(BLOCK, bench.patience)
        slot.view[:] = 0xEE
        slot.release()
        ring.advance()
    bench.wait(point)
    wanted = np.concatenate([pattern(key, BLOCK) for key in range(2)])
    bench.same(landed(bench, device, target), wanted, f"a block {EARLY}: the device")


@pytest.mark.clause("ring.no-reuse-before-signal")
def test_no_other_ring_gets_the_blocks_of_a_closed_one_in_flight(bench: Bench) -> None:
    device = bench.open()
    target, trash = device.create_buffer(2 * BLOCK), device.create_buffer(BLOCK)
    ring = device.staging_ring(ring_count=2, buffer_size=BLOCK)
    pieces = [pattern(key, BLOCK) for key in range(2)]
    with bench.hold(device, "upload", 1.0) as hold:
        for key, piece in enumerate(pieces):
            hold.observe(put, ring, piece, target, key * BLOCK)
            ring.advance()
        ring.close()
        others = [device.staging_ring(ring_count=2, buffer_size=BLOCK) for _ in range(2)]
        for other in others:
            for _ in range(2):  # written while the device has yet to read what the closed ring staged
                hold.observe(put, other, np.full(BLOCK, 0xEE, np.uint8), trash)
    for other in others:
        bench.wait(other.advance(bench.patience))
    device.wait_idle(bench.patience)
    wanted = np.concatenate(pieces)
    bench.same(landed(bench, device, target), wanted, f"a closed ring's block {EARLY}: the device")


@pytest.mark.clause("ring.reuse-after-signal")
def test_blocks_come_back_for_ever_without_new_memory(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=3, buffer_size=BLOCK)
    target = painted(bench, device, BLOCK)
    before = device.budget.metrics().host_visible_bytes
    for key in range(bench.scale(20, 200)):
        slot = ring.allocate(BLOCK)
        bench.check(slot is not None, f"block {key} did not come back: None, with nothing in flight")
        assert slot is not None
        if key % 5 == 3:
            slot.release()
            bench.wait(ring.advance())
            continue
        slot.view[:] = pattern(key, BLOCK)
        slot.commit(target)
        bench.wait(ring.advance())
        held = device.budget.metrics().host_visible_bytes
        bench.check(
            held == before, f"host-visible memory went from {before} to {held} bytes after {key} blocks"
        )
        bench.same(landed(bench, device, target), pattern(key, BLOCK), f"block {key} of a ring in use")


@pytest.mark.clause("ring.reuse-after-signal")
def test_blocks_come_back_to_who_waits_and_never_advances(bench: Bench) -> None:
    device = bench.open()
    for count in range(1, 9):
        ring = device.staging_ring(ring_count=count, buffer_size=BLOCK)
        target = device.create_buffer(BLOCK)
        for key in range(bench.scale(20, 100)):
            try:
                slot = ring.reserve(1500, bench.patience)
            except FenceTimeout as error:
                bench.check(False, f"slice {key} of {count} blocks: memory did not come back: {error}")
            slot.view[:] = pattern(key, 1500)
            slot.commit(target, key % 2000)
        bench.wait(ring.advance())
        seen = landed(bench, device, target)[key % 2000 :][:1500]
        bench.same(seen, pattern(key, 1500), "the last slice of a ring in use")
