"""The ring's figures, beside a model's after every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.ring_model import RingModel
from forge3d_conformance.holding import Holding
from forge3d_conformance.violation import Inconclusive
from forge3d_core.protocols import StagingSlice

T = TypeVar("T")


class StatsMachine(RuleBasedStateMachine):
    """A ring beside its model; with ``holds`` its lane is held once in a while.

    What it does next depends on the model alone. Where a hold lapses by itself the rest of the example
    happens in the model only, so that hypothesis sees the same program whatever the device's pace.
    """

    holds = False
    looks = 0

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.device = bench.open()
        self.ring = self.device.staging_ring(ring_count=3, buffer_size=1000)
        self.model = RingModel(3, 1000, self.device.limits.staging_alignment)
        self.target = self.device.create_buffer(1000)
        self.place: tuple[int, int] | None = None
        self.nbytes = 0
        self.slot: StagingSlice | None = None
        self.hold: Holding | None = None
        self.held_before = self.lapsed = False
        self.same()

    @precondition(lambda self: self.place is None)
    @rule(nbytes=st.integers(1, 1000))
    def allocate(self, nbytes: int) -> None:
        self.place, self.nbytes = self.model.allocate(nbytes), nbytes
        self.slot = self.look(lambda: self.ring.allocate(nbytes))
        if not self.lapsed:
            seen = None if self.slot is None else (self.slot.ring_index, self.slot.offset)
            self.bench.check(seen == self.place, f"allocate({nbytes}) gave {seen}, the model {self.place}")
        self.same()

    @precondition(lambda self: self.place is not None)
    @rule()
    def commit(self) -> None:
        assert self.place is not None
        self.model.commit(self.place[0], self.nbytes)
        if not self.lapsed:
            assert self.slot is not None
            self.slot.view[:] = 1
            self.slot.commit(self.target)
        self.place = self.slot = None
        self.same()

    @precondition(lambda self: self.place is None)
    @rule()
    def advance(self) -> None:
        self.model.advance()
        if not self.lapsed:
            self.ring.advance(self.bench.patience)
        self.same()

    @precondition(lambda self: self.holds and not self.held_before)
    @rule()
    def keep(self) -> None:
        self.held_before = True
        self.hold = self.bench.hold(self.device, "upload", 0.2)

    @precondition(lambda self: self.hold is not None)
    @rule()
    def let_go(self) -> None:
        assert self.hold is not None
        self.hold.release()
        self.hold = None
        self.same()

    def look(self, what: Callable[[], T]) -> T | None:
        """Do ``what``, and note when the hold under which it was to be done has lapsed by itself."""
        if self.lapsed:
            return None
        if self.hold is None:
            return what()
        try:
            seen = self.hold.observe(what)
        except Inconclusive:
            self.lapsed = True
            return None
        type(self).looks += 1
        return seen

    def same(self) -> None:
        if self.hold is None:
            self.device.wait_idle(self.bench.patience)
            self.model.complete()
        seen, wanted = self.look(self.ring.stats), self.model.stats()
        if seen is None:
            return
        for field in attrs.fields(type(wanted)):
            is_, was = getattr(seen, field.name), getattr(wanted, field.name)
            self.bench.check(is_ == was, f"{field.name} is {is_} where the model has {was}")

    def teardown(self) -> None:
        if self.hold is not None:
            self.hold.release()
        self.device.close()


@pytest.mark.clause("ring.stats", requires=())
def test_figures_equal_a_models(bench: Bench) -> None:
    bench.machine(lambda: StatsMachine(bench))


@pytest.mark.clause("ring.stats")
def test_figures_of_a_ring_that_fills_up(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=1000)
    model = RingModel(2, 1000, device.limits.staging_alignment)
    target = device.create_buffer(1000)

    def same(what: str) -> None:
        seen, wanted = ring.stats(), model.stats()
        for field in attrs.fields(type(wanted)):
            is_, was = getattr(seen, field.name), getattr(wanted, field.name)
            bench.check(is_ == was, f"{what}: {field.name} is {is_} where the model has {was}")

    with bench.hold(device, "upload") as hold:
        for nbytes in (700, 500, 400, 400, 1000, 3):
            place, slot = model.allocate(nbytes), hold.observe(ring.allocate, nbytes)
            hold.observe(same, f"after allocate({nbytes}) on a held lane")
            if place is not None and slot is not None:
                slot.commit(target)
                model.commit(place[0], nbytes)
                hold.observe(same, f"after commit of {nbytes} bytes on a held lane")
        ring.advance()
        model.advance()
        hold.observe(same, "after advance on a held lane")
    device.wait_idle(bench.patience)
    model.complete()
    same("once the device is done")


@pytest.mark.clause("ring.stats")
def test_figures_equal_a_models_on_held_lanes(bench: Bench) -> None:
    class Held(StatsMachine):
        holds = True

    # A bounded hold costs its whole time, used or not.
    bench.machine(lambda: Held(bench), max_examples=bench.scale(20, 60))
    if not Held.looks:
        raise Inconclusive("the lane was never held for a look at the ring's figures")


@pytest.mark.clause("ring.stats", requires=())
def test_a_snapshot_is_of_one_instant(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=6400)
    target, nbytes, threads = device.create_buffer(64), 64, 3

    def work() -> None:
        for _ in range(bench.scale(60, 500)):
            slot = ring.reserve(nbytes, bench.patience)
            slot.commit(target)

    futures = [bench.thread(work) for _ in range(threads)]
    while not all(future.done() for future in futures):
        seen = ring.stats()
        most = seen.allocations * nbytes
        bench.check(
            most - threads * nbytes <= seen.bytes_staged <= most
            and seen.bytes_in_flight <= seen.bytes_staged,
            f"{threads} threads stage {nbytes} bytes at a time, and the snapshot is of no instant: {seen}",
        )
    for future in futures:
        bench.result(future)
