"""What a full ring says, who waits for its room, and who comes first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import BLOCK, EARLY, landed, pattern, put, take
from forge3d_conformance.violation import ClauseViolation, Inconclusive
from forge3d_conformance.waiting import PROMPT
from forge3d_core.errors import FenceTimeout
from forge3d_core.protocols import RingStats, StagingRing


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
