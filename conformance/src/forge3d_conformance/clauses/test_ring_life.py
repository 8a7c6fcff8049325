"""The ring's life: what it takes, what becomes of its views, and what is left after close."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import BLOCK, landed, pattern, put, take
from forge3d_conformance.waiting import PROMPT
from forge3d_core.errors import BudgetError, BudgetExceeded, BudgetExhausted, Closed, StateError, ViewHeld
from forge3d_core.protocols import BudgetMetrics, Device


def _unlike(bench: Bench, device: Device, before: BudgetMetrics, what: str) -> None:
    after = device.budget.metrics()
    names = ("buffer_count", "buffer_bytes", "host_visible_bytes", "device_local_bytes", "total_bytes")
    for name in names:
        was, is_ = getattr(before, name), getattr(after, name)
        bench.check(is_ == was, f"{what} left {name} at {is_} where {was} was before")


@pytest.mark.clause("ring.budgeted")
@pytest.mark.parametrize(("count", "size"), [(1, 4096), (3, 65536), (8, 16384)])
def test_a_ring_takes_its_blocks_and_gives_them_back(bench: Bench, count: int, size: int) -> None:
    device = bench.open()
    target = device.create_buffer(64)
    before = device.budget.metrics()
    for _ in range(3):
        ring = device.staging_ring(ring_count=count, buffer_size=size)
        taken = device.budget.metrics().host_visible_bytes - before.host_visible_bytes
        bench.check(taken == count * size, f"{count} blocks of {size} took {taken} bytes, not {count * size}")
        put(ring, pattern(0, 64), target)
        bench.wait(ring.advance())
        taken = device.budget.metrics().host_visible_bytes - before.host_visible_bytes
        bench.check(taken == count * size, f"a ring in use holds {taken} bytes, not {count * size}")
        ring.close()
        _unlike(bench, device, before, "a ring, closed,")


@pytest.mark.clause("ring.budgeted")
def test_a_ring_that_does_not_fit_leaves_nothing(bench: Bench) -> None:
    device = bench.open(budget=5 * 65536)
    other = device.staging_ring(ring_count=2, buffer_size=65536)
    before = device.budget.metrics()
    for _ in range(3):
        with bench.raises(BudgetExhausted, "a fourth block where three are left"):
            device.staging_ring(ring_count=4, buffer_size=65536)
        _unlike(bench, device, before, "a ring that was refused")
    with bench.raises((BudgetExceeded, BudgetExhausted), "six blocks where five are the limit"):
        device.staging_ring(ring_count=6, buffer_size=65536)
    with bench.raises(BudgetExceeded, "a block of more than the limit"):
        device.staging_ring(ring_count=1, buffer_size=6 * 65536)
    _unlike(bench, device, before, "a ring that was refused")
    device.staging_ring(ring_count=3, buffer_size=65536).close()
    other.close()
    device.staging_ring(ring_count=5, buffer_size=65536).close()


@pytest.mark.clause("ring.budgeted", requires=("host_pressure",))
def test_a_ring_that_the_driver_refuses_leaves_nothing(bench: Bench) -> None:
    device = bench.open()
    before = device.budget.metrics()
    bench.fail_next_allocation(device)
    with bench.raises(BudgetError, "a ring that the driver has no memory for"):
        device.staging_ring(ring_count=3, buffer_size=65536)
    _unlike(bench, device, before, "a ring that the driver refused")
    device.staging_ring(ring_count=3, buffer_size=65536).close()


@pytest.mark.clause("ring.budgeted", requires=("hold",))
def test_a_closed_ring_gives_back_when_the_device_is_done(bench: Bench) -> None:
    device = bench.open()
    target = device.create_buffer(65536)
    before = device.budget.metrics().host_visible_bytes
    ring = device.staging_ring(ring_count=1, buffer_size=65536)
    with bench.hold(device, "upload") as hold:
        put(ring, pattern(0, 65536), target)
        ring.close()
        held = hold.observe(device.budget.metrics).host_visible_bytes - before
        bench.check(held == 65536, f"{held} bytes are held for a block that the device still reads")
    bench.until(
        lambda: device.budget.metrics().host_visible_bytes == before,
        f"a return to {before} host-visible bytes after close",
    )
    bench.same(landed(bench, device, target), pattern(0, 65536), "what was committed before close")


@pytest.mark.clause("ring.stale-view")
def test_a_derived_array_keeps_a_slice_from_being_committed(bench: Bench) -> None:
    device = bench.open()
    target = device.create_buffer(2 * BLOCK)
    ring = device.staging_ring(buffer_size=BLOCK)
    slot = take(ring, 64)
    slot.view[:] = pattern(0, 64)
    before = ring.stats()
    derived = [slot.view[8:24], slot.array("u4").reshape(4, 4), slot.view[::2].view("u1")[1:]]
    while derived:
        with bench.raises(ViewHeld, f"commit with {len(derived)} derived arrays alive"):
            slot.commit(target)
        bench.check(ring.stats() == before, f"a commit that raised changed {before} to {ring.stats()}")
        derived.pop()[...] = 5  # still the slice's memory
    bench.same(slot.view[8:24], np.full(16, 5, np.uint8), "a derived array, written after ViewHeld,")
    wanted = slot.view.copy()
    slot.commit(target, 10)
    bench.wait(ring.advance())
    bench.same(landed(bench, device, target)[10:74], wanted, "a slice committed after ViewHeld")


STALE = """
import faulthandler, gc
import numpy as np
from forge3d_conformance.child import bench
from forge3d_core.errors import Closed, ForgeError, SliceSpent

faulthandler.enable()
device = bench.open()
size = 4096
target, trash = device.create_buffer(size), device.create_buffer(size)
wanted = (np.arange(size) % 251).astype(np.uint8)

def read():
    if "peek" in bench.capabilities:
        return bench.peek(device, target)
    with device.readback_pool(max_pending_ops=1, buffer_size=size) as pool:
        return pool.read(target).wait(bench.patience)

def late(what, do):
    try:
        do()
    except (ForgeError, ValueError, IndexError, TypeError) as error:
        print("ok", what, type(error).__name__)
    else:
        print("ok", what, "passed")

def spent(what, do):
    try:
        do()
    except (SliceSpent, Closed) as error:
        if isinstance(error, Closed) and not closed:
            print("bad", what, f"raised Closed ({error}) instead of SliceSpent")
        else:
            print("ok", what, type(error).__name__)
    except Exception as error:
        print("bad", what, f"raised {type(error).__name__} ({error}) instead of SliceSpent")
    else:
        print("bad", what, "passed after commit where SliceSpent was expected")

def assign(array):
    array[...] = 0xEE

for moment in ("at once", "after advance", "once complete", "in a new ring", "after close"):
    ring = device.staging_ring(ring_count=2, buffer_size=size)
    slot = ring.allocate(size)
    kept = [slot.view, slot.array("u4"), slot.array("f4", (32, 32)), slot.array("u1", (64, 64))]
    kept[0][:] = wanted
    slot.commit(target)
    point, closed = None, False
    if moment != "at once":
        point = ring.advance()
    if moment in ("once complete", "in a new ring", "after close"):
        point.wait(bench.patience)
    if moment == "in a new ring":
        ring.close()
        ring, closed = device.staging_ring(ring_count=2, buffer_size=size), True
    if moment == "after close":
        ring.close()
        closed = True
    for number, array in enumerate(kept):
        late(f"a write {moment} through array {number}", lambda: assign(array))
        late(f"a write {moment} to item 0 of array {number}", lambda: array.__setitem__(0, 3))
        late(f"a read {moment} of array {number}", lambda: array.sum())
        late(f"np.copyto {moment} into array {number}", lambda: np.copyto(array, 1))
    spent(f"view {moment}", lambda: slot.view)
    spent(f"array {moment}", lambda: slot.array("u1"))
    spent(f"commit {moment}", lambda: slot.commit(trash))
    late(f"release {moment}", lambda: slot.release())
    if point is None:
        point = ring.advance()
    point.wait(bench.patience)
    late(f"a write in the end through the view kept {moment}", lambda: assign(kept[0]))
    if moment != "after close":
        ring.advance().wait(bench.patience)
    seen = read()
    differ = np.flatnonzero(seen != wanted)
    if differ.size:
        print("bad a write", moment, f"reached the device: {differ.size} bytes, the first at {differ[0]}")
    del kept, array
    gc.collect()
    ring.close()

ring, closed = device.staging_ring(buffer_size=size), False
slot = ring.allocate(64)
kept = slot.view
slot.release()
slot.release()
late("a write after release", lambda: assign(kept))
spent("view after release", lambda: slot.view)
spent("commit after release", lambda: slot.commit(target))
device.close()
late("a write after the device closed", lambda: assign(kept))
late("a view after the device closed", lambda: slot.view)
print("end")
"""


@pytest.mark.clause("ring.stale-view")
def test_views_used_after_commit_do_no_harm(bench: Bench) -> None:
    ended = bench.child(STALE)
    bad = [line for line in ended.stdout.splitlines() if line.startswith("bad")]
    bench.check(not bad, "; ".join(line[4:] for line in bad[:3]))
    bench.check(
        ended.status == 0 and ended.stdout.rstrip().endswith("end"),
        f"a stale view ended the process: {ended}",
    )


@pytest.mark.clause("ring.closed")
def test_every_method_says_closed(bench: Bench) -> None:
    device = bench.open()
    target = device.create_buffer(BLOCK)
    ring = device.staging_ring(buffer_size=BLOCK)
    put(ring, pattern(0, 100), target)
    left = take(ring, 50)
    ring.close()
    bench.check(ring.closed, "a closed ring says that it is not closed")
    calls: dict[str, Callable[[], object]] = {
        "allocate": lambda: ring.allocate(1),
        "reserve": lambda: ring.reserve(1, 0.01),
        "advance": lambda: ring.advance(0.01),
        "upload": lambda: ring.upload(pattern(1, 10), target),
    }
    for name, call in calls.items():
        with bench.raises(Closed, f"{name} after close"):
            bench.within(PROMPT, f"{name} after close", call)
    spent: dict[str, Callable[[], object]] = {
        "view": lambda: left.view,
        "commit": lambda: left.commit(target, 200),
    }
    for name, use in spent.items():
        with bench.raises(StateError, f"{name} of a slice that close released"):
            use()
    try:
        stats = ring.stats()
        ring.close()
    except Exception as error:
        bench.check(False, f"stats or close after close raised {type(error).__name__}: {error}")
    bench.check(
        stats.bytes_staged == 100, f"after close stats say {stats.bytes_staged} bytes staged, not 100"
    )
    device.wait_idle(bench.patience)
    wanted = np.concatenate([pattern(0, 100), np.zeros(BLOCK - 100, np.uint8)])
    bench.same(landed(bench, device, target), wanted, "what was committed before close")


@pytest.mark.clause("ring.closed")
def test_what_was_committed_arrives(bench: Bench) -> None:
    device = bench.open()
    target = device.create_buffer(4 * BLOCK)
    with device.staging_ring(ring_count=2, buffer_size=BLOCK) as ring:
        for key in range(3):  # leaves a block by itself, and one for close
            slot = ring.reserve(3000, bench.patience)
            slot.view[:] = pattern(key, 3000)
            slot.commit(target, key * 3000)
        kept = ring.reserve(700, bench.patience)
    bench.check(ring.closed, "a ring is open after its with block")
    with bench.raises(StateError, "a slice that close released"):
        kept.commit(target)
    device.wait_idle(bench.patience)
    wanted = np.concatenate([pattern(key, 3000) for key in range(3)])
    bench.same(landed(bench, device, target)[:9000], wanted, "what was committed before close")


@pytest.mark.clause("ring.closed")
def test_close_wakes_who_waits(bench: Bench) -> None:
    ring = bench.open().staging_ring(ring_count=1, buffer_size=BLOCK)
    blocker = take(ring, BLOCK)  # by name: a slice that is dropped may give its room back
    waiting = [bench.thread(lambda: ring.reserve(BLOCK)) for _ in range(2)]
    bench.until(lambda: ring.stats().buffer_stalls >= 2, "two reserves that wait")
    bench.within(PROMPT, "close with slices open and threads waiting", ring.close)
    for future in waiting:
        with bench.raises(Closed, what := "a reserve that waits while the ring is closed"):
            bench.within(PROMPT, what, future.result)
    with bench.raises(StateError, "a slice that close released"):
        _ = blocker.view


@pytest.mark.clause("ring.closed", requires=("hold",))
def test_close_with_work_in_flight(bench: Bench) -> None:
    device = bench.open()
    target = device.create_buffer(BLOCK)
    ring = device.staging_ring(ring_count=1, buffer_size=BLOCK)
    with bench.hold(device, "upload"):
        put(ring, pattern(3, BLOCK), target)
        bench.result(bench.thread(ring.close), "close behind a held lane")
    device.wait_idle(bench.patience)
    bench.same(landed(bench, device, target), pattern(3, BLOCK), "what was committed before close")
