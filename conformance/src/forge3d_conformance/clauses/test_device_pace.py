"""What must not wait for the device, while it has work that goes on and on."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import asleep, fill
from forge3d_conformance.violation import Tardy
from forge3d_core.protocols import FencePoint

BYTES = 4096
SECONDS = 1.0


@pytest.mark.clause("device.nonblocking")
def test_making_and_closing_waits_for_no_lane(bench: Bench) -> None:
    device = bench.open()
    busy, spare = device.create_buffer(BYTES), device.create_buffer(BYTES)
    for lane in dict.fromkeys((bench.lanes[0], bench.lanes[-1])):
        made: list[Any] = [device.staging_ring(ring_count=1, buffer_size=BYTES)]
        made.append(device.readback_pool(max_pending_ops=1, buffer_size=BYTES))
        made.append(device.create_buffer(BYTES))
        with bench.hold(device, lane, SECONDS) as hold:
            fill(device, busy, 1, lane)
            for one in made:
                hold.promptly(one.close)
            made = [hold.promptly(device.create_buffer, BYTES)]
            made.append(hold.promptly(lambda: device.staging_ring(ring_count=2, buffer_size=BYTES)))
            made.append(hold.promptly(lambda: device.readback_pool(max_pending_ops=2, buffer_size=BYTES)))
            for one in made:
                hold.promptly(one.close)
            hold.promptly(device.budget.metrics)
        bench.wait(fill(device, spare, 1, lane))


@pytest.mark.clause("device.nonblocking", requires=("hold", "textures"))
def test_making_a_texture_waits_for_no_lane(bench: Bench) -> None:
    device = bench.open()
    busy = device.create_buffer(BYTES)
    with bench.hold(device, bench.lanes[0], SECONDS) as hold:
        fill(device, busy, 1, bench.lanes[0])
        hold.promptly(hold.promptly(device.create_texture, 16, 16).close)


@pytest.mark.clause("device.nonblocking", requires=("hold", "adopt"))
def test_adopting_waits_for_no_lane(bench: Bench) -> None:
    device = bench.open()
    busy, native = device.create_buffer(BYTES), bench.foreign(device, BYTES)
    with bench.hold(device, bench.lanes[0], SECONDS) as hold:
        fill(device, busy, 1, bench.lanes[0])
        hold.promptly(hold.promptly(device.adopt, native).close)


@pytest.mark.clause("device.nonblocking")
def test_a_submission_does_not_wait_for_what_it_comes_after(bench: Bench) -> None:
    """The device does, by ``after`` and by the memory that they share, also with many of them."""
    device = bench.open()
    busy, free = device.create_buffer(BYTES), device.create_buffer(BYTES)
    first, last = bench.lanes[0], bench.lanes[-1]
    with bench.hold(device, first, SECONDS) as hold:
        point = fill(device, busy, 1, first)
        later = [hold.promptly(fill, device, free, 2, last, [point]) for _ in range(3)]
        later.append(hold.promptly(fill, device, busy, 3, last))
        bench.check(
            not hold.observe(lambda: any(one.done for one in later)), "work after a held point is done"
        )
    for one in later:
        bench.wait(one)


@pytest.mark.clause("device.nonblocking")
def test_submissions_in_any_number_wait_for_no_lane(bench: Bench) -> None:
    device = bench.open()
    busy = device.create_buffer(BYTES)
    lane, hundreds = bench.lanes[0], bench.scale(2, 10)

    def hundred() -> list[FencePoint]:
        return [fill(device, busy, value, lane) for value in range(100)]

    with bench.hold(device, lane, SECONDS) as hold:
        points = [point for _ in range(hundreds) for point in hold.promptly(hundred)]
        bench.check(
            not hold.observe(lambda: any(point.done for point in points)), "work behind a hold is done"
        )
    bench.wait(points[-1], f"the last of {len(points)} submissions in flight")
    bench.check(all(point.done for point in points), "a point is not done and a later one of its lane is")


@pytest.mark.clause("device.nonblocking")
def test_submissions_do_not_wait_for_those_who_wait(bench: Bench) -> None:
    """Threads and coroutines wait for one lane; all lanes take work, and their points tell."""
    device = bench.open()
    busy = device.create_buffer(BYTES)
    lane = bench.lanes[0]
    with bench.hold(device, lane, SECONDS) as hold:
        point = fill(device, busy, 1, lane)
        waiters = [bench.thread(point.wait, bench.patience) for _ in range(2)]
        waiters.append(bench.thread(asleep, bench, point))
        for other in bench.lanes:
            free = device.create_buffer(BYTES)
            later = hold.promptly(fill, device, free, 2, other)
            hold.promptly(lambda later=later: later.done)
            hold.promptly(lambda: point.done)
    for waiter in waiters:
        bench.result(waiter, "a wait for what was held")


MANY = 100
DEARER, LEAST = 10.0, 0.1
"""By what factor, and to how many seconds at least, so many submissions must not slow down beside waiters."""


@pytest.mark.clause("device.nonblocking")
def test_a_submission_takes_as_long_beside_those_who_wait(bench: Bench) -> None:
    """A lock that a wait holds is let go now and then: it shows in what many submissions take."""
    device = bench.open()
    busy, free = device.create_buffer(BYTES), device.create_buffer(64)
    lane, other = bench.lanes[0], bench.lanes[-1]

    def taken() -> float:
        started = time.perf_counter()
        for _ in range(MANY):
            fill(device, free, 2, other)
        return time.perf_counter() - started

    with bench.hold(device, lane, SECONDS) as hold:
        point = fill(device, busy, 1, lane)
        alone = hold.observe(taken)
        waiters = [bench.thread(point.wait, bench.patience) for _ in range(2)]
        threading.Event().wait(0.02)
        beside = hold.observe(taken)
    for waiter in waiters:
        bench.result(waiter, "a wait for what was held")
    if beside > max(LEAST, DEARER * alone):
        raise Tardy(
            f"{MANY} submissions take {beside:.3f} s beside two threads that wait for {lane!r}, and "
            f"{alone:.3f} s without them: they wait for a lock that a wait holds"
        )


@pytest.mark.clause("device.nonblocking", requires=("hold", "driver"))
def test_nothing_waits_for_a_lock_that_a_wait_of_the_driver_holds(bench: Bench) -> None:
    """The core waits in small pieces, which hide such a lock; here one wait lasts for all of the hold."""
    device, driver = bench.breakable()
    busy = device.create_buffer(BYTES)
    lane = bench.lanes[0]
    driver.linger(5 * SECONDS)
    with bench.hold(device, lane, SECONDS) as hold:
        point = fill(device, busy, 1, lane)
        waiter = bench.thread(point.wait, bench.patience)
        threading.Event().wait(0.02)
        for other in bench.lanes:
            free = hold.promptly(device.create_buffer, BYTES)
            later = hold.promptly(fill, device, free, 2, other)
            hold.promptly(lambda later=later: later.done)
            hold.promptly(lambda: point.done)
    bench.result(waiter, "a wait for what was held")


@pytest.mark.clause("fence.callbacks")
def test_a_callback_may_call_anything(bench: Bench) -> None:
    """No lock is held: what another thread asks of the device comes back while the callback waits for it.

    Work that it submits may stand still meanwhile: callbacks come on any thread, also the only one there is.
    """
    device = bench.open()
    buffer = device.create_buffer(BYTES)
    pool = device.readback_pool(max_pending_ops=4, buffer_size=BYTES)
    seen: list[object] = []

    def work() -> object:
        point = fill(device, buffer, 7, bench.lanes[-1])
        device.create_buffer(64).close()
        return point.value, pool.read(buffer).is_complete, device.budget.metrics().buffer_count

    def called(point: FencePoint, _error: Exception | None) -> None:
        seen.append(point.done)
        try:
            seen.append(bench.result(bench.thread(work), "a thread that uses the device"))
        except Exception as error:
            seen.append(error)

    for lane in bench.lanes:
        seen.clear()
        fill(device, buffer, 1, lane).on_done(called)
        bench.until(lambda: len(seen) == 2, f"a callback of {lane!r}")
        bench.check(seen[0] is True, f"a point of {lane!r} is not done in its own callback")
        bench.check(isinstance(seen[1], tuple), f"beside a callback of {lane!r} a thread got {seen[1]!r}")
