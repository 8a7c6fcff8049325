"""The budget: every byte by kind and heap, as a model has it, and given back once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.budget_model import HEAPS, KINDS, LIMIT, Model, held
from forge3d_core.errors import BudgetError, OutOfDeviceMemory
from forge3d_core.protocols import BudgetMetrics, BudgetTracker, Device, Heap, MemoryKind, Reservation

SIZES = st.sampled_from((0, 0, 1, LIMIT, LIMIT + 1)) | st.integers(0, LIMIT + 2)


class Tracking(RuleBasedStateMachine):
    """A tracker and its model, step by step."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.device = bench.open(budget=LIMIT)
        self.tracker = self.device.budget
        self.model = Model(LIMIT, self.tracker.metrics())
        self.live: dict[int, Reservation] = {}
        self.number = 0

    @rule(nbytes=SIZES, kind=st.sampled_from(KINDS), heap=st.sampled_from(HEAPS))
    def reserve(self, nbytes: int, kind: MemoryKind, heap: Heap) -> None:
        if self.model.allows(nbytes, heap):
            self.number += 1
            self.live[self.number] = self.tracker.reserve(nbytes, kind=kind, heap=heap)
            self.model.take(self.number, nbytes, kind, heap)
            return
        with self.bench.raises(self.model.refusal(nbytes), f"reserve({nbytes})"):
            self.tracker.reserve(nbytes, kind=kind, heap=heap)
        self.model.refusals += 1

    @rule(nbytes=SIZES, heap=st.sampled_from(HEAPS))
    def ask(self, nbytes: int, heap: Heap) -> None:
        if self.model.allows(nbytes, heap):
            self.tracker.check(nbytes, heap=heap)
            return
        with self.bench.raises(self.model.refusal(nbytes), f"check({nbytes})"):
            self.tracker.check(nbytes, heap=heap)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), again=st.booleans())
    def release(self, data: st.DataObject, again: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.live)))
        reservation = self.live.pop(key)
        nbytes, kind, heap = self.model.taken.pop(key)
        self.bench.check(
            (reservation.nbytes, reservation.kind, reservation.heap) == (nbytes, kind, heap),
            f"a reservation of {nbytes} {kind} {heap} says {reservation.nbytes} {reservation.kind} "
            f"{reservation.heap}",
        )
        for _ in range(1 + again):
            reservation.release()
        self.bench.check(reservation.released, "a released reservation does not say so")

    @rule(limit=st.integers(0, 2 * LIMIT))
    def adjust(self, limit: int) -> None:
        self.tracker.set_limit(limit)
        self.model.limit = limit

    @invariant()
    def agrees(self) -> None:
        seen, wanted = self.tracker.metrics(), self.model.metrics()
        wrong = [
            f"{name} is {value}, the model has {getattr(wanted, name)}"
            for name, value in attrs.asdict(seen).items()
            if value != getattr(wanted, name)
        ]
        self.bench.check(not wrong, f"metrics drift: {'; '.join(wrong)}")

    def teardown(self) -> None:
        for reservation in self.live.values():
            reservation.release()
        self.device.close()


@pytest.mark.clause("budget.exact")
def test_metrics_equal_a_model_after_every_step(bench: Bench) -> None:
    bench.machine(lambda: Tracking(bench))


@pytest.mark.clause("budget.exact")
def test_a_snapshot_is_of_one_instant(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    before, each, turns = tracker.metrics(), 1000, bench.scale(1000, 5000)
    start = threading.Barrier(len(KINDS) * len(HEAPS), timeout=bench.patience)

    def user(kind: MemoryKind, heap: Heap) -> None:
        start.wait()
        for _ in range(turns):
            tracker.reserve(each, kind=kind, heap=heap).release()

    def torn(seen: BudgetMetrics) -> str | None:
        count = seen.buffer_count + seen.texture_count - before.buffer_count - before.texture_count
        sums = {
            "the heaps": seen.host_visible_bytes + seen.device_local_bytes,
            "the kinds": seen.buffer_bytes + seen.texture_bytes,
            "the counts": before.total_bytes + each * count,
        }
        for what, nbytes in sums.items():
            if nbytes != seen.total_bytes:
                return f"a snapshot is torn: {nbytes} bytes by {what}, {seen.total_bytes} in total"
        return None

    with bench.racing():
        users = [bench.thread(user, kind, heap) for kind in KINDS for heap in HEAPS]
        deadline = time.monotonic() + bench.patience
        wrong: str | None = None
        while not (wrong or all(thread.done() for thread in users)) and time.monotonic() < deadline:
            wrong = torn(tracker.metrics())
        for thread in users:
            bench.result(thread, "a thread that reserves and releases")
    bench.check(wrong is None, f"{wrong}")


@pytest.mark.clause("budget.kinds")
def test_what_a_device_makes_is_counted_under_its_kind_and_heap(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    size = 40_000
    _moves(
        bench,
        device,
        lambda: device.create_buffer(size),
        {"buffer_count", "buffer_bytes", "device_local_bytes"},
        size,
    )
    _moves(
        bench,
        device,
        lambda: device.staging_ring(ring_count=1, buffer_size=size),
        {"buffer_count", "buffer_bytes", "host_visible_bytes"},
        size,
    )
    _moves(
        bench,
        device,
        lambda: device.readback_pool(max_pending_ops=1, buffer_size=size),
        {"buffer_count", "buffer_bytes", "host_visible_bytes"},
        size,
    )
    for kind in KINDS:
        for heap in HEAPS:
            _moves(
                bench,
                device,
                partial(_reserved, device.budget, size, kind, heap),
                {f"{kind}_count", f"{kind}_bytes", f"{heap}_bytes"},
                size,
            )
    size = min(LIMIT, device.limits.max_buffer_size)
    buffers = [device.create_buffer(size) for _ in range(4 * LIMIT // size)]
    with device.budget.reserve(LIMIT):
        bench.check(
            device.budget.metrics().within_budget,
            "device-local memory used up the limit on host-visible memory",
        )
    for buffer in buffers:
        buffer.close()


@pytest.mark.clause("budget.kinds", requires=("textures",))
def test_a_texture_is_counted_as_a_texture(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    side = min(100, device.limits.max_texture_size)
    _moves(
        bench,
        device,
        lambda: device.create_texture(side, side, "rgba8unorm"),
        {"texture_count", "texture_bytes", "device_local_bytes"},
        4 * side * side,
    )


class _Closable:
    def __init__(self, reservation: Reservation) -> None:
        self.close = reservation.release


def _reserved(tracker: BudgetTracker, nbytes: int, kind: MemoryKind, heap: Heap) -> _Closable:
    return _Closable(tracker.reserve(nbytes, kind=kind, heap=heap))


def _moves(bench: Bench, device: Device, make: Callable[[], Any], fields: set[str], size: int) -> None:
    """Check that making something moves exactly these fields (and the total), and closing moves them back."""
    before = held(device.budget.metrics())
    one = make()
    between = held(device.budget.metrics())
    moved = {n for n, v in attrs.asdict(between).items() if v != getattr(before, n)} - {"total_bytes"}
    bench.check(moved == fields, f"making {one!r} moved {sorted(moved)} where {sorted(fields)} should move")
    grown = between.total_bytes - before.total_bytes
    bench.check(size <= grown <= size + max(4096, size // 16), f"{size} bytes are counted as {grown} bytes")
    one.close()
    bench.until(lambda: held(device.budget.metrics()) == before, "giving back what was closed")


@pytest.mark.clause("budget.peak")
def test_peaks_are_the_highest_totals_ever(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    model = Model(LIMIT, tracker.metrics())
    live: list[Reservation] = []
    for step, (nbytes, heap) in enumerate(
        (
            (LIMIT // 2, HEAPS[0]),
            (3 * LIMIT, HEAPS[1]),
            (LIMIT // 3, HEAPS[0]),
            (LIMIT, HEAPS[0]),
            (17, HEAPS[1]),
        )
    ):
        if model.allows(nbytes, heap):
            live.append(tracker.reserve(nbytes, heap=heap))
            model.take(step, nbytes, "buffer", heap)
        else:
            with bench.raises(BudgetError, f"reserve({nbytes})"):
                tracker.reserve(nbytes, heap=heap)
        if step == 2:
            live[1].release()
            del model.taken[1]
        seen = tracker.metrics()
        bench.check(
            (seen.peak_bytes, seen.peak_host_visible_bytes) == (model.peak, model.peak_host),
            f"peaks are {seen.peak_bytes} and {seen.peak_host_visible_bytes} where {model.peak} and "
            f"{model.peak_host} were reached",
        )
    for reservation in live:
        reservation.release()
    seen = tracker.metrics()
    bench.check(
        (seen.peak_bytes, seen.peak_host_visible_bytes) == (model.peak, model.peak_host),
        f"peaks are {seen.peak_bytes} and {seen.peak_host_visible_bytes} after giving back, not "
        f"{model.peak} and {model.peak_host}",
    )


@pytest.mark.clause("budget.peak", requires=("host_pressure",))
def test_what_the_driver_refuses_is_no_peak(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    device.staging_ring(ring_count=1, buffer_size=4096).close()
    before = device.budget.metrics()
    bench.fail_next_allocation(device)
    with bench.raises(OutOfDeviceMemory, "a ring when the driver has no memory"):
        device.staging_ring(ring_count=1, buffer_size=LIMIT // 2)
    seen = device.budget.metrics()
    bench.check(
        (seen.peak_bytes, seen.peak_host_visible_bytes)
        == (before.peak_bytes, before.peak_host_visible_bytes),
        f"peaks are {seen.peak_bytes} and {seen.peak_host_visible_bytes} after the driver refused, before "
        f"they were {before.peak_bytes} and {before.peak_host_visible_bytes}",
    )


@pytest.mark.clause("budget.release-once")
def test_releasing_again_does_nothing(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    empty = held(tracker.metrics())
    with tracker.reserve(1000):
        once = held(tracker.metrics())
        with tracker.reserve(500) as inner:
            inner.release()
            inner.release()
        bench.check(held(tracker.metrics()) == once, "releasing twice gave back bytes that others hold")
        for _ in range(bench.scale(20, 200)):
            raced, start = tracker.reserve(300), threading.Barrier(4, timeout=bench.patience)

            def race(raced: Reservation = raced, start: threading.Barrier = start) -> None:
                start.wait()
                raced.release()

            with bench.racing():
                for racer in [bench.thread(race) for _ in range(4)]:
                    bench.result(racer, "a releasing thread")
            seen = held(tracker.metrics())
            bench.check(
                seen == once,
                f"four threads that released one reservation left {seen.total_bytes} bytes, not "
                f"{once.total_bytes}",
            )
    bench.check(held(tracker.metrics()) == empty, "something stays reserved after every release")
