"""When a block of the ring may be used again, and who gets it then."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import BLOCK, landed, painted, pattern, put, take
from forge3d_conformance.violation import ClauseViolation, Inconclusive
from forge3d_conformance.waiting import PROMPT
from forge3d_core.errors import FenceTimeout, SliceOutstanding
from forge3d_core.protocols import RingStats, StagingRing

EARLY = "was handed out while the device may still read it"


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


def _changed(before: RingStats, after: RingStats) -> str:
    names = [field.name for field in attrs.fields(RingStats)]
    return ", ".join(
        f"{name} from {getattr(before, name)} to {getattr(after, name)}"
        for name in names
        if getattr(before, name) != getattr(after, name)
    )


def _full(bench: Bench, ring: StagingRing, nbytes: int, ask: Callable[..., Any]) -> None:
    before = ring.stats()
    try:
        slot = ask(ring.allocate, nbytes)
    except (ClauseViolation, Inconclusive):
        raise
    except Exception as error:
        bench.check(False, f"allocate on a full ring raised {type(error).__name__}: {error}")
    bench.check(slot is None, f"allocate on a full ring returned {slot!r}")
    after = ring.stats()
    wanted = attrs.evolve(before, buffer_stalls=before.buffer_stalls + 1)
    bench.check(after == wanted, f"allocate on a full ring changed {_changed(before, after) or 'nothing'}")


@pytest.mark.clause("ring.full-is-none")
def test_a_ring_in_flight_is_full(bench: Bench) -> None:
    device = bench.open()
    quarter = max(BLOCK // 4, device.limits.staging_alignment)
    block = 4 * quarter
    ring = device.staging_ring(ring_count=2, buffer_size=block)
    target = device.create_buffer(2 * block)
    with bench.hold(device, "upload") as hold:
        put(ring, pattern(0, block), target)
        ring.advance()
        put(ring, pattern(1, 3 * quarter), target, block)
        # The current block has room for a little: a larger request finds the ring full and leaves it so.
        hold.observe(_full, bench, ring, 2 * quarter, hold.promptly)
        hold.observe(_full, bench, ring, block, hold.promptly)
        small = hold.observe(ring.allocate, 500)
        bench.check(small is not None, "allocate on a full ring changed what is left of the current block")
        assert small is not None
        small.view[:] = pattern(2, 500)
        small.commit(target, block + 3 * quarter)
        point = ring.advance()
        for nbytes in (1, block):
            hold.observe(_full, bench, ring, nbytes, hold.promptly)
    bench.wait(point)
    wanted = np.concatenate([pattern(0, block), pattern(1, 3 * quarter), pattern(2, 500)])
    bench.same(landed(bench, device, target)[: wanted.size], wanted, "what a ring staged before it was full")


@pytest.mark.clause("ring.full-is-none", requires=())
def test_a_ring_being_written_is_full(bench: Bench) -> None:
    ring = bench.open().staging_ring(ring_count=2, buffer_size=BLOCK)
    slots = [take(ring, BLOCK), take(ring, BLOCK)]
    for nbytes in (1, BLOCK, 1):
        _full(bench, ring, nbytes, partial(bench.within, PROMPT, "allocate on a full ring"))
    for slot in slots:
        slot.release()
    ring.advance()
    bench.check(ring.allocate(BLOCK) is not None, "a ring that was full stays full")


@pytest.mark.clause("ring.reserve-waits", requires=())
def test_first_come_first_served(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=1, buffer_size=BLOCK)
    target = device.create_buffer(BLOCK)
    blocker = take(ring, BLOCK)
    served: list[int] = []

    def come(number: int, nbytes: int) -> None:
        slot = ring.reserve(nbytes, bench.patience)
        served.append(number)
        if number % 2:
            slot.commit(target)
        else:
            slot.release()

    # Small ones among them: what would fit must not overtake what waits.
    futures = []
    for number, nbytes in enumerate((BLOCK, 16, BLOCK, 700)):
        waiting = ring.stats().buffer_stalls
        futures.append(bench.thread(lambda n=number, size=nbytes: come(n, size)))
        bench.until(lambda: ring.stats().buffer_stalls > waiting or served, "a reserve that waits")  # noqa: B023
        bench.check(not served, f"reserve {served} did not wait on a full ring")
    blocker.release()
    for future in futures:
        bench.result(future, "a reserve with room")
    bench.check(served == [0, 1, 2, 3], f"reserves were served in the order {served}, not as they came")


@pytest.mark.clause("ring.reserve-waits", requires=())
def test_what_would_fit_stays_behind_what_waits(bench: Bench) -> None:
    ring = bench.open().staging_ring(ring_count=1, buffer_size=BLOCK)
    half = take(ring, BLOCK // 2)  # open, so that the block is neither full nor to be had
    served: list[int] = []

    def come(nbytes: int) -> None:
        slot = ring.reserve(nbytes, bench.patience)
        served.append(nbytes)
        slot.release()

    futures = []
    for nbytes in (BLOCK, 16):
        waiting = ring.stats().buffer_stalls
        futures.append(bench.thread(come, nbytes))
        bench.until(lambda: ring.stats().buffer_stalls > waiting or served, "a reserve that waits")  # noqa: B023
        bench.check(
            not served,
            f"reserve({nbytes}) was served while half of the only block was open and reserve({BLOCK}) came "
            "first: it overtook what waits",
        )
    half.release()
    for future in futures:
        bench.result(future, "a reserve with room")
    bench.check(served == [BLOCK, 16], f"reserves of {served} bytes were served in this order: one overtook")


@pytest.mark.clause("ring.reserve-waits", requires=())
def test_who_gives_up_leaves_the_line(bench: Bench) -> None:
    ring = bench.open().staging_ring(ring_count=1, buffer_size=BLOCK)
    blocker = take(ring, BLOCK)
    before = ring.stats()
    for timeout in (0, 0.01):
        with bench.raises(FenceTimeout, f"reserve({BLOCK}, {timeout}) of a full ring"):
            bench.within(timeout + PROMPT, f"reserve({BLOCK}, {timeout})", ring.reserve, BLOCK, timeout)
    after = attrs.evolve(ring.stats(), buffer_stalls=0)
    bench.check(
        attrs.evolve(before, buffer_stalls=0, current_ring_index=0)
        == attrs.evolve(after, current_ring_index=0),
        f"a reserve that timed out changed {_changed(before, after)}",
    )
    waiting = ring.stats().buffer_stalls
    first = bench.thread(lambda: ring.reserve(BLOCK, 0.05))
    second = bench.thread(lambda: ring.reserve(BLOCK, bench.patience).release())
    bench.until(lambda: ring.stats().buffer_stalls >= waiting + 2, "two reserves that wait")
    with bench.raises(FenceTimeout, "the first in line, of a full ring"):
        bench.within(0.05 + PROMPT, f"reserve({BLOCK}, 0.05)", first.result)
    blocker.release()
    try:
        bench.result(second, "the second in line, with room,")
    except FenceTimeout as error:
        bench.check(False, f"the second in line was not served: {error}")


@pytest.mark.clause("ring.reserve-waits")
def test_a_reserve_wakes_when_the_device_is_done(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=BLOCK)
    target = device.create_buffer(BLOCK)
    with bench.hold(device, "upload") as hold:
        for key in range(2):
            put(ring, pattern(key, BLOCK), target)
            ring.advance()
        before = ring.stats()
        with bench.raises(FenceTimeout, "reserve of a ring in flight"):
            hold.promptly(ring.reserve, BLOCK, 0.01)
        after = ring.stats()
        hold.still()
        bench.check(
            after == attrs.evolve(before, buffer_stalls=before.buffer_stalls + 1),
            f"a reserve that timed out changed {_changed(before, after)}",
        )
        waiting = bench.thread(lambda: ring.reserve(BLOCK, bench.patience))
        bench.until(lambda: ring.stats().buffer_stalls > after.buffer_stalls, "a reserve that waits")
        bench.check(not hold.observe(waiting.done), "a reserve of a ring in flight did not wait")
    try:
        bench.result(waiting, "reserve, with the device done,").release()
    except FenceTimeout as error:
        bench.check(False, f"reserve was not woken by the device: {error}")


@pytest.mark.clause("ring.no-head-of-line")
def test_a_stuck_lane_stops_no_other_ring(bench: Bench) -> None:
    device = bench.open()
    stuck = device.staging_ring(ring_count=2, buffer_size=BLOCK, lane="compute")
    free = device.staging_ring(ring_count=2, buffer_size=BLOCK, lane="upload")
    parked, target = device.create_buffer(BLOCK), device.create_buffer(BLOCK)
    with bench.hold(device, "compute") as hold:
        for key in range(2):
            put(stuck, pattern(key, BLOCK), parked)
            stuck.advance()
        for key in range(8):
            try:
                slot = free.reserve(BLOCK, bench.patience)
            except FenceTimeout as error:
                hold.still()
                bench.check(False, f"a ring on another lane came to a stop at its slice {key}: {error}")
            slot.view[:] = pattern(key, BLOCK)
            slot.commit(target)
            bench.wait(free.advance(), "an upload beside a held lane")
            held = free.stats().bytes_in_flight
            bench.check(held == 0, f"{held} bytes of a finished upload stay in flight beside a held lane")
        bench.check(hold.observe(stuck.allocate, 1) is None, f"a block in flight {EARLY}")
    bench.same(landed(bench, device, target), pattern(7, BLOCK), "an upload beside a held lane")


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
