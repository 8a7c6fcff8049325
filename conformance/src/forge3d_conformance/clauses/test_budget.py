"""The budget: every byte by kind and heap, and a hard limit on what the host can see."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forge3d_conformance.bench import Bench
from forge3d_core.errors import BudgetError, BudgetExceeded, BudgetExhausted, OutOfDeviceMemory
from forge3d_core.protocols import BudgetMetrics, BudgetTracker, Device, Heap, MemoryKind, Reservation

LIMIT = 1 << 20
KINDS: tuple[MemoryKind, ...] = ("buffer", "texture")
HEAPS: tuple[Heap, ...] = ("host_visible", "device_local")
SIZES = st.sampled_from((0, 0, 1, LIMIT, LIMIT + 1)) | st.integers(0, LIMIT + 2)
FORGOTTEN = {"peak_bytes": 0, "peak_host_visible_bytes": 0, "refusals": 0}


def held(metrics: BudgetMetrics) -> BudgetMetrics:
    """Return the part of the metrics that goes back when everything is given back."""
    return attrs.evolve(metrics, **FORGOTTEN)


@attrs.define
class Model:
    """What a tracker must say, kept the plain way."""

    limit: int
    base: BudgetMetrics
    taken: dict[int, tuple[int, MemoryKind, Heap]] = attrs.field(factory=dict)
    peak: int = 0
    peak_host: int = 0
    refusals: int = 0

    def __attrs_post_init__(self) -> None:
        self.peak, self.peak_host = self.base.peak_bytes, self.base.peak_host_visible_bytes
        self.refusals = self.base.refusals

    def nbytes(self, kind: MemoryKind | None = None, heap: Heap | None = None) -> int:
        return sum(n for n, k, h in self.taken.values() if kind in (None, k) and heap in (None, h))

    @property
    def host(self) -> int:
        return self.base.host_visible_bytes + self.nbytes(heap="host_visible")

    def allows(self, nbytes: int, heap: Heap) -> bool:
        return heap == "device_local" or self.host + nbytes <= self.limit

    def refusal(self, nbytes: int) -> type[BudgetError]:
        return BudgetExceeded if nbytes > self.limit else BudgetExhausted

    def take(self, key: int, nbytes: int, kind: MemoryKind, heap: Heap) -> None:
        self.taken[key] = (nbytes, kind, heap)
        self.peak = max(self.peak, self.base.total_bytes + self.nbytes())
        self.peak_host = max(self.peak_host, self.host)

    def metrics(self) -> BudgetMetrics:
        count = {kind: sum(k == kind for _, k, _ in self.taken.values()) for kind in KINDS}
        device = self.base.device_local_bytes + self.nbytes(heap="device_local")
        return BudgetMetrics(
            buffer_count=self.base.buffer_count + count["buffer"],
            buffer_bytes=self.base.buffer_bytes + self.nbytes("buffer"),
            texture_count=self.base.texture_count + count["texture"],
            texture_bytes=self.base.texture_bytes + self.nbytes("texture"),
            host_visible_bytes=self.host,
            device_local_bytes=device,
            total_bytes=self.host + device,
            peak_bytes=self.peak,
            peak_host_visible_bytes=self.peak_host,
            limit_bytes=self.limit,
            refusals=self.refusals,
        )


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


@pytest.mark.clause("budget.hard-limit")
def test_no_thread_ever_sees_more_than_the_limit(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    tracker, piece = device.budget, LIMIT // 2 + 1  # two of them are too many
    start = threading.Barrier(6, timeout=bench.patience)
    linger, rounds = threading.Event(), bench.scale(150, 2000)

    def hammer(step: int) -> int:
        start.wait()
        most = 0
        for i in range(rounds):
            try:
                with tracker.reserve(piece + (i * step) % 1000):
                    linger.wait(0.0002)  # held long enough for another thread to overlap
                    most = max(most, tracker.metrics().host_visible_bytes)
            except BudgetExhausted:
                pass
        return most

    threads = [bench.thread(hammer, step) for step in range(1, 7)]
    seen = [bench.result(thread, "a reserving thread") for thread in threads]
    peak = tracker.metrics().peak_host_visible_bytes
    bench.check(max(*seen, peak) <= LIMIT, f"{max(*seen, peak)} bytes were reserved under a limit of {LIMIT}")
    bench.check(
        tracker.metrics().host_visible_bytes == 0,
        f"{tracker.metrics().host_visible_bytes} bytes stay reserved after every thread gave back",
    )


@pytest.mark.clause("budget.hard-limit")
def test_the_limit_is_512_mib_and_holds_for_all_that_a_device_makes(bench: Bench) -> None:
    limit = bench.open().budget.limit
    bench.check(limit == 512 * 1024**2, f"an unconfigured device has a limit of {limit} bytes")
    device = bench.open(budget=LIMIT)
    made: list[Any] = [device.staging_ring(ring_count=3, buffer_size=LIMIT // 16) for _ in range(3)]
    made.append(device.readback_pool(max_pending_ops=3, buffer_size=LIMIT // 16))
    with bench.raises(BudgetError, "rings beyond the limit"):
        made.extend(device.staging_ring(ring_count=3, buffer_size=LIMIT // 16) for _ in range(100))
    with bench.raises(BudgetError, "a pool beyond the limit"):
        made.append(device.readback_pool(max_pending_ops=32, buffer_size=LIMIT // 16))
    metrics = device.budget.metrics()
    bench.check(
        LIMIT // 2 <= metrics.host_visible_bytes <= metrics.peak_host_visible_bytes <= LIMIT,
        f"rings and pools filled the budget to {metrics.host_visible_bytes}, peak "
        f"{metrics.peak_host_visible_bytes}, limit {LIMIT}",
    )
    for one in made:
        one.close()


@pytest.mark.clause("budget.clean-refusal")
def test_a_refusal_leaves_no_trace(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    tracker = device.budget
    attempts: list[tuple[str, Callable[[], object]]] = [
        ("a reservation beyond the limit", lambda: tracker.reserve(LIMIT + 1)),
        ("a reservation beyond what is left", lambda: tracker.reserve(LIMIT)),
        ("a waiting reservation", lambda: tracker.reserve(LIMIT, timeout=0.01)),
        ("a ring", lambda: device.staging_ring(ring_count=8, buffer_size=LIMIT // 4)),
        ("a ring that can never fit", lambda: device.staging_ring(buffer_size=2 * LIMIT)),
        ("a pool", lambda: device.readback_pool(max_pending_ops=8, buffer_size=LIMIT // 4)),
    ]
    with tracker.reserve(LIMIT // 2):
        for what, attempt in attempts:
            before = tracker.metrics()
            with bench.raises(BudgetError, what):
                attempt()
            gc.collect()
            after = tracker.metrics()
            bench.check(
                held(after) == held(before),
                f"after the refusal of {what} {after.host_visible_bytes} bytes are reserved, before "
                f"{before.host_visible_bytes}",
            )
            bench.check(
                after.refusals > before.refusals, f"the refusal of {what} was not counted ({after.refusals})"
            )


@pytest.mark.clause("budget.check")
def test_check_foretells_reserve_and_takes_nothing(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    tracker = device.budget
    with tracker.reserve(LIMIT // 4 + 3):
        left = LIMIT - tracker.metrics().host_visible_bytes
        for nbytes in (0, 1, left - 1, left, left + 1, LIMIT, LIMIT + 1, 10 * LIMIT):
            before = tracker.metrics()
            told = _outcome(partial(tracker.check, nbytes))
            bench.check(tracker.metrics() == before, f"check({nbytes}) changed the metrics")
            done = _outcome(lambda: tracker.reserve(nbytes).release())  # noqa: B023
            bench.check(told == done, f"check({nbytes}) says {told} and reserve does {done}")
        asked: list[int] = []

        def reclaim(nbytes: int) -> int:
            asked.append(nbytes)
            return 0

        tracker.add_reclaimer(reclaim)
        with bench.raises(BudgetExhausted, "check of more than is left"):
            tracker.check(left + 1)
        bench.check(not asked, f"check asked a reclaimer for {asked} bytes")


def _outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except BudgetError as error:
        return type(error).__name__
    return "yes"


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
    with device.create_buffer(4 * LIMIT), device.budget.reserve(LIMIT):
        bench.check(
            device.budget.metrics().within_budget,
            "device-local memory used up the limit on host-visible memory",
        )


@pytest.mark.clause("budget.kinds", requires=("textures",))
def test_a_texture_is_counted_as_a_texture(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    _moves(
        bench,
        device,
        lambda: device.create_texture(100, 100, "rgba8unorm"),
        {"texture_count", "texture_bytes", "device_local_bytes"},
        40_000,
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

            for racer in [bench.thread(race) for _ in range(4)]:
                bench.result(racer, "a releasing thread")
            seen = held(tracker.metrics())
            bench.check(
                seen == once,
                f"four threads that released one reservation left {seen.total_bytes} bytes, not "
                f"{once.total_bytes}",
            )
    bench.check(held(tracker.metrics()) == empty, "something stays reserved after every release")


@pytest.mark.clause("budget.collected")
def test_what_is_dropped_is_given_back(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    empty = held(device.budget.metrics())
    makers: dict[str, Callable[[], object]] = {
        "buffer": lambda: device.create_buffer(5000),
        "ring": lambda: device.staging_ring(ring_count=2, buffer_size=5000),
        "pool": lambda: device.readback_pool(max_pending_ops=2, buffer_size=5000),
        "reservation": lambda: device.budget.reserve(5000),
    }
    for what, make in makers.items():
        owner = make()
        bench.check(device.budget.metrics().total_bytes > empty.total_bytes, f"a {what} takes no memory")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del owner
            gc.collect()
            left = _settled(bench, device.budget, empty)
        bench.check(
            left == empty,
            f"a dropped {what} keeps {left.total_bytes - empty.total_bytes} bytes after its collection",
        )


@pytest.mark.clause("budget.collected")
def test_what_is_held_at_close_is_given_back_and_reported(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    tracker = device.budget
    leaked = [tracker.reserve(12_345), tracker.reserve(55, heap="device_local")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        device.close()
    told = [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)]
    bench.check(
        any("2" in text or "12" in text for text in told),
        f"closing with {len(leaked)} reservations held reported no leak: {told}",
    )
    seen = tracker.metrics()
    bench.check(seen.total_bytes == 0, f"{seen.total_bytes} bytes stay reserved after the device closed")


def _settled(bench: Bench, tracker: BudgetTracker, wanted: BudgetMetrics) -> BudgetMetrics:
    """Return the metrics once they are as wanted, or as they are after a while."""
    pause = threading.Event()
    for _ in range(100):
        if held(tracker.metrics()) == wanted:
            break
        pause.wait(0.002)
    return held(tracker.metrics())


@pytest.mark.clause("budget.watermarks")
def test_a_watermark_calls_once_for_each_crossing(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    calls: dict[float, int] = {0.75: 0, 0.9: 0, 1.0: 0}

    def counted(mark: float) -> Callable[[BudgetMetrics], None]:
        def call(metrics: BudgetMetrics) -> None:
            calls[mark] += 1
            bench.check(
                metrics.host_visible_bytes >= mark * LIMIT,
                f"the mark at {mark} was called at {metrics.host_visible_bytes} of {LIMIT} bytes",
            )

        return call

    removers = {mark: tracker.on_watermark(mark, counted(mark)) for mark in calls}
    wanted = dict.fromkeys(calls, 0)
    above = dict.fromkeys(calls, False)
    held_now: list[Reservation] = []
    for percent in (10, 74, 75, 80, 74, 76, 95, 89, 91, 100, 0, 100, 50, 90, 75, 90):
        nbytes = -(-percent * LIMIT // 100)
        current = sum(one.nbytes for one in held_now)
        if nbytes > current:
            held_now.append(tracker.reserve(nbytes - current))
        elif nbytes < current:
            for one in held_now:
                one.release()
            for mark in calls:
                above[mark] = above[mark] and nbytes >= mark * LIMIT  # released to nothing first
            held_now = []
            above = dict.fromkeys(calls, False)
            if nbytes:
                held_now = [tracker.reserve(nbytes)]
        for mark in calls:
            if nbytes >= mark * LIMIT and not above[mark]:
                wanted[mark] += 1
                above[mark] = True
        bench.check(calls == wanted, f"at {percent} % the marks were called {calls}, not {wanted}")
    for one in held_now:
        one.release()
    for remove in removers.values():
        remove()
    with tracker.reserve(LIMIT):
        bench.check(calls == wanted, f"a removed mark was called: {calls}, not {wanted}")


@pytest.mark.clause("budget.watermarks")
def test_device_local_memory_crosses_no_mark(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    called: list[BudgetMetrics] = []
    tracker.on_watermark(0.5, called.append)
    with tracker.reserve(4 * LIMIT, heap="device_local"):
        bench.check(not called, "device-local memory crossed a mark on host-visible memory")


@pytest.mark.clause("budget.adjustable")
def test_the_limit_moves_while_memory_is_held(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    with tracker.reserve(LIMIT // 2) as first:
        tracker.set_limit(LIMIT // 4)
        seen = tracker.metrics()
        bench.check(
            tracker.limit == seen.limit_bytes == LIMIT // 4,
            f"the limit was set to {LIMIT // 4} and is {tracker.limit}",
        )
        bench.check(
            seen.host_visible_bytes == LIMIT // 2 and not first.released and not seen.within_budget,
            f"lowering the limit changed what is held to {seen.host_visible_bytes} bytes",
        )
        with bench.raises(BudgetExhausted, "a reservation above a lowered limit"):
            tracker.reserve(1)
        tracker.set_limit("1 MiB")
        tracker.reserve(LIMIT // 2).release()
        tracker.set_limit(LIMIT // 2)
        waiting = bench.thread(lambda: tracker.reserve(LIMIT // 4, timeout=bench.patience))
        bench.check(not waiting.done(), "a reservation above the limit did not wait")
        tracker.set_limit(LIMIT)
        bench.result(waiting, "a reservation that waits for a higher limit").release()


@pytest.mark.clause("budget.waits")
def test_waiting_reservations_all_get_through(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    turns = bench.scale(8, 60)

    def user(share: int) -> int:
        for _ in range(turns):
            with tracker.reserve(LIMIT // share, timeout=bench.patience):
                pass
        return share

    with tracker.reserve(LIMIT):  # so that every user's first turn has to wait
        users = [bench.thread(user, share) for share in (1, 2, 2, 3, 5)]
        threading.Event().wait(0.01)
        early = [thread for thread in users if thread.done()]
    bench.check(
        not early, f"{len(early)} waiting reservation(s) were refused while others gave back, or overshot"
    )
    for thread in users:
        try:
            bench.result(thread, "a waiting reservation")
        except BudgetError as error:
            bench.check(False, f"a waiting reservation was refused while others gave back: {error}")
    bench.check(tracker.metrics().host_visible_bytes == 0, "bytes stay reserved after every waiter gave back")


@pytest.mark.clause("budget.waits")
def test_a_wait_for_nobody_ends_in_time(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    with tracker.reserve(LIMIT):
        for timeout in (0.0, 0.05):
            waiter = bench.thread(partial(tracker.reserve, 1, timeout=timeout))
            with bench.raises(BudgetExhausted, f"a reservation that waits {timeout} s for nobody"):
                bench.result(waiter, f"a reservation that waits {timeout} s")
        with bench.raises(BudgetExceeded, "a wait for more than the limit"):
            bench.result(bench.thread(lambda: tracker.reserve(LIMIT + 1, timeout=None)), "a hopeless wait")


@pytest.mark.clause("budget.reclaim-first")
def test_reclaimers_are_asked_before_a_refusal(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    cache = [tracker.reserve(LIMIT // 4) for _ in range(4)]
    asked: list[int] = []

    def reclaim(nbytes: int) -> int:
        asked.append(nbytes)
        tracker.metrics()  # outside any lock: this must not hang
        given = 0
        while cache and given < nbytes:
            one = cache.pop()
            given += one.nbytes
            one.release()
        return given

    remove = tracker.add_reclaimer(reclaim)
    got = bench.result(bench.thread(lambda: tracker.reserve(LIMIT // 2)), "a reservation that reclaims")
    bench.check(bool(asked), "a reclaimer was not asked")
    bench.check(
        min(asked) >= LIMIT // 2, f"the reclaimer was asked for {asked} bytes where {LIMIT // 2} were short"
    )
    bench.check(len(cache) == 2, f"{len(cache)} of 4 cached pieces are left where 2 had to go")
    with bench.raises(BudgetExhausted, "a reservation that reclaiming cannot make room for"):
        tracker.reserve(LIMIT * 3 // 4)
    remove()
    asked.clear()
    with bench.raises(BudgetExhausted, "a reservation with no reclaimer left"):
        tracker.reserve(LIMIT)
    bench.check(not asked, "a removed reclaimer was asked")
    for one in (*cache, got):
        one.release()


@pytest.mark.clause("budget.reclaim-first")
def test_idle_readback_blocks_make_room(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    with device.readback_pool(max_pending_ops=4, buffer_size=LIMIT // 8) as pool:
        buffer = device.create_buffer(64)
        bench.check(len(pool.read(buffer).wait(bench.patience)) == 64, "a read returned other bytes")
        try:
            device.budget.reserve(LIMIT * 3 // 4).release()
        except BudgetExhausted as error:
            bench.check(False, f"idle readback blocks were not given back before a refusal: {error}")
        again = pool.read(buffer).wait(bench.patience)
        bench.check(len(again) == 64, "a pool whose blocks were reclaimed does not read any more")


@pytest.mark.clause("budget.three-refusals", requires=())
def test_too_much_and_too_much_for_now_are_told_apart(bench: Bench) -> None:
    tracker = bench.open(budget=LIMIT).budget
    with bench.raises(BudgetExceeded, "more than the limit") as caught:
        tracker.reserve(LIMIT + 1)
    _says_figures(bench, caught)
    with tracker.reserve(1):
        with bench.raises(BudgetExhausted, "more than is left") as exhausted:
            tracker.reserve(LIMIT)
        _says_figures(bench, exhausted)
    tracker.reserve(LIMIT).release()


@pytest.mark.clause("budget.three-refusals")
def test_a_driver_without_memory_is_a_third_refusal(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    before = held(device.budget.metrics())
    bench.fail_next_allocation(device)
    with bench.raises(OutOfDeviceMemory, "a ring when the driver has no memory") as caught:
        device.staging_ring(ring_count=2, buffer_size=4096)
    bench.check(isinstance(caught[0], MemoryError), "OutOfDeviceMemory is no MemoryError")
    bench.check(
        held(device.budget.metrics()) == before, "an allocation that the driver refused stays counted"
    )
    device.staging_ring(ring_count=2, buffer_size=4096).close()


def _says_figures(bench: Bench, caught: list[Any]) -> None:
    for error in caught:
        bench.check(isinstance(error, MemoryError), f"{type(error).__name__} is no MemoryError")
        bench.check(any(c.isdigit() for c in str(error)), f"the refusal names no figures: {error}")
