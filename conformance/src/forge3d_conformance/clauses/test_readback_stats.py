"""Readback: what the pool counts."""

from __future__ import annotations

import gc
import threading
import time
from itertools import pairwise

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.sources import all_of, ended, stamped, take
from forge3d_core.errors import Busy, DeviceLost, OutOfRange
from forge3d_core.protocols import Lease, ReadbackHandle, ReadbackStats

DEPTH = 3


@pytest.mark.clause("readback.stats", requires=())
def test_counts_follow_a_model(bench: Bench) -> None:
    class Machine(RuleBasedStateMachine):
        """A read that nobody has taken may have landed or not; every other count is certain."""

        def __init__(self) -> None:
            super().__init__()
            self.device = bench.open()
            (self.source,) = stamped(bench, self.device, [1], 9000)
            self.pool = self.device.readback_pool(
                max_pending_ops=DEPTH, backpressure="raise", buffer_size=4096
            )
            self.untaken: list[tuple[int, ReadbackHandle]] = []
            self.leased: list[Lease] = []
            self.landed = self.bytes = self.cancelled = self.waits = 0

        @precondition(lambda self: len(self.untaken) + len(self.leased) < DEPTH)
        @rule(nbytes=st.sampled_from((1, 100, 4096, 4097, 9000)))
        def read(self, nbytes: int) -> None:
            handle = self.pool.read(self.source, nbytes=nbytes)
            bench.wait(handle.point, "a read's point")
            self.untaken.append((nbytes, handle))

        @rule()
        def read_nothing(self) -> None:
            take(bench, self.pool.read(self.source, nbytes=0))
            self.landed += 1

        @rule()
        def read_too_much(self) -> None:
            with bench.raises(OutOfRange, "a read past the end"):
                self.pool.read(self.source, offset=1, nbytes=9000)

        @precondition(lambda self: len(self.leased) == DEPTH)
        @rule()
        def read_one_too_many(self) -> None:
            with bench.raises(Busy, "a read while every block is leased"):
                self.pool.read(self.source)
            self.waits += 1

        @precondition(lambda self: self.untaken)
        @rule(which=st.integers(0, 9), times=st.integers(1, 3))
        def take(self, which: int, times: int) -> None:
            nbytes, handle = self.untaken.pop(which % len(self.untaken))
            for _ in range(times):
                bench.same(take(bench, handle), all_of(1, nbytes), "a read")
            handle.cancel()  # too late
            self.landed, self.bytes = self.landed + 1, self.bytes + nbytes

        @precondition(lambda self: self.untaken)
        @rule(which=st.integers(0, 9))
        def lease(self, which: int) -> None:
            nbytes, handle = self.untaken.pop(which % len(self.untaken))
            self.leased.append(handle.lease(bench.patience))
            self.landed, self.bytes = self.landed + 1, self.bytes + nbytes

        @precondition(lambda self: self.leased)
        @rule(which=st.integers(0, 9))
        def release(self, which: int) -> None:
            self.leased.pop(which % len(self.leased)).release()

        @precondition(lambda self: self.untaken)
        @rule(which=st.integers(0, 9))
        def cancel(self, which: int) -> None:
            nbytes, handle = self.untaken.pop(which % len(self.untaken))
            handle.cancel()
            handle.cancel()
            if ended(handle, bench.patience) == "Cancelled":
                self.cancelled += 1
            else:  # its bytes had landed: too late
                self.landed, self.bytes = self.landed + 1, self.bytes + nbytes

        @invariant()
        def the_counts_are_the_models(self) -> None:
            stats = self.pool.stats()
            early = stats.completed_operations - self.landed
            on_hand = sum(nbytes for nbytes, _ in self.untaken)
            counts = {
                "total_operations": self.landed + self.cancelled + len(self.untaken),
                "pending_operations": len(self.leased) + len(self.untaken) - early,
                "cancelled_operations": self.cancelled,
                "failed_operations": 0,
                "dropped_frames": 0,
                "waits": self.waits,
            }
            for name, wanted in counts.items():
                seen = getattr(stats, name)
                bench.check(seen == wanted, f"{name} is {seen} where the model has {wanted}: {stats}")
            bench.check(
                0 <= early <= len(self.untaken),
                f"completed_operations is {stats.completed_operations} where {self.landed} were taken and "
                f"{len(self.untaken)} not: {stats}",
            )
            bench.check(
                self.bytes <= stats.bytes_read <= self.bytes + (on_hand if early else 0),
                f"bytes_read is {stats.bytes_read} where {self.bytes} were taken: {stats}",
            )
            bench.check(
                (stats.average_time_ms > 0) <= (stats.completed_operations > 0)
                and stats.average_time_ms >= 0,
                f"average_time_ms is {stats.average_time_ms}: {stats}",
            )

        def teardown(self) -> None:
            for lease in self.leased:
                lease.release()
            self.device.close()

    bench.machine(Machine)


@pytest.mark.clause("readback.stats")
def test_counts_in_flight(bench: Bench) -> None:
    device = bench.open()
    (source,) = stamped(bench, device, [1], 500)
    with device.readback_pool(max_pending_ops=4, backpressure="raise", buffer_size=4096) as pool:
        fresh = pool.stats()
        bench.check(
            (fresh.total_operations, fresh.pending_operations, fresh.average_time_ms) == (0, 0, 0.0),
            f"a fresh pool counts {fresh}",
        )
        with bench.hold(device, "download") as hold:
            began = time.monotonic()
            handles = [pool.read(source) for _ in range(4)]
            started = time.monotonic()
            counted(bench, hold.observe(pool.stats), total=4, pending=4)
            with bench.raises(Busy, "a read beyond the limit"):
                hold.promptly(pool.read, source)
            counted(bench, hold.observe(pool.stats), total=4, pending=4)
            handles.pop().cancel()
            del handles[-1]
            gc.collect(0)
            counted(bench, hold.observe(pool.stats), total=4, pending=4, cancelled=2)
            threading.Event().wait(0.05)
            least = 1e3 * (time.monotonic() - started)
            hold.still()

        def complete() -> bool:
            nonlocal least
            waited = 1e3 * (time.monotonic() - started)
            if handles[0].is_complete:
                return True
            least = waited
            return False

        bench.until(complete, "a read that was let go")
        for handle in handles:
            take(bench, handle)
        bench.until(lambda: pool.stats().pending_operations == 0, "a pool without pending reads")
        last = pool.stats()
        counted(bench, last, total=4, pending=0, cancelled=2, completed=2)
        bench.check(last.waits == 1, f"waits is {last.waits} after one read found no block")
        bench.check(last.bytes_read == 1000, f"bytes_read is {last.bytes_read} after two reads of 500")
        most = 1e3 * (time.monotonic() - began)
        bench.check(
            least <= last.average_time_ms <= most,
            f"average_time_ms is {last.average_time_ms} where reads took {least:.0f} to {most:.0f} ms",
        )


def counted(bench: Bench, stats: ReadbackStats, **wanted: int) -> None:
    """Compare the counts of operations; those that are not named are 0."""
    for name in ("total", "pending", "cancelled", "completed", "failed"):
        count = wanted.get(name, 0)
        seen = getattr(stats, f"{name}_operations")
        bench.check(seen == count, f"{name}_operations is {seen} where the model has {count}: {stats}")


@pytest.mark.clause("readback.stats", requires=("hold", "lose"))
def test_reads_that_fail_are_counted_once(bench: Bench) -> None:
    device = bench.open()
    (source,) = stamped(bench, device, [1])
    pool = device.readback_pool(max_pending_ops=3, buffer_size=4096)
    take(bench, pool.read(source))
    with bench.hold(device, "download") as hold:
        handles = [pool.read(source) for _ in range(2)]
        hold.still()
        bench.lose(device)
        for _ in range(2):
            for handle in handles:
                with bench.raises(DeviceLost, "a wait for a read of a lost device"):
                    handle.wait(bench.patience)
    stats = pool.stats()
    seen = (stats.total_operations, stats.completed_operations, stats.failed_operations)
    bench.check(seen == (3, 1, 2), f"total, completed and failed are {seen} where the model has (3, 1, 2)")


@pytest.mark.clause("readback.stats", requires=())
def test_a_snapshot_is_of_one_instant(bench: Bench) -> None:
    device = bench.open()
    (source,) = stamped(bench, device, [1], 100)
    stop = threading.Event()
    with device.readback_pool(max_pending_ops=DEPTH, timeout=bench.patience, buffer_size=4096) as pool:

        def work() -> None:
            for _ in range(bench.scale(30, 400)):
                take(bench, pool.read(source))

        def watch() -> list[ReadbackStats]:
            seen = []
            while not stop.wait(0.0003):
                seen.append(pool.stats())
            return seen

        watcher = bench.thread(watch)
        workers = [bench.thread(work) for _ in range(3)]
        try:
            for worker in workers:
                bench.result(worker, "a reading thread")
        finally:
            stop.set()
        for stats in (seen := bench.result(watcher)):
            consistent(bench, stats)
        for before, after in pairwise(seen):
            bench.check(
                before.total_operations <= after.total_operations
                and before.completed_operations <= after.completed_operations
                and before.bytes_read <= after.bytes_read,
                f"a count went backwards: {before}, then {after}",
            )
        last = pool.stats()
        bench.check(
            last.total_operations == last.completed_operations == last.bytes_read // 100,
            f"all reads were taken, and the counts do not add up: {last}",
        )


def consistent(bench: Bench, stats: ReadbackStats) -> None:
    bench.check(
        stats.bytes_read == 100 * stats.completed_operations,
        f"{stats.completed_operations} reads of 100 bytes have landed and bytes_read is {stats.bytes_read}",
    )
    bench.check(
        stats.completed_operations <= stats.total_operations, f"more reads landed than were started: {stats}"
    )
    bench.check(0 <= stats.pending_operations <= DEPTH, f"more reads hold a block than may: {stats}")
