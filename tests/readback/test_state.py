"""The state of a pool's blocks against a model of it: no device, no thread, no time."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forge3d_core.lifetime.hold import note
from forge3d_core.readback.state import FULL, Allocate, Land, PoolState, Slot


class Moment:
    """A point that passes when the model says so."""

    def __init__(self) -> None:
        self.done = False


class Memory:
    """Stands for an allocation, and for its ownership."""

    def __init__(self) -> None:
        self.points: list[Moment] = []
        self.reachable = False

    @property
    def allocation(self) -> Memory:
        return self

    def uses(self) -> list[Moment]:
        return self.points


class Read:
    """What the pool knows weakly."""


class Token:
    """Stands for a lease that has not ended."""


def started(state: PoolState, reads: int = 1) -> tuple[Slot, list[Any]]:
    """Lend a block to reads, submit them and complete them."""
    wanted: list[Any] = [Read() for _ in range(reads)]
    step = state.lend(wanted, 4096)
    if isinstance(step, Allocate):
        step = Slot(Memory(), step.nbytes)  # type: ignore[arg-type]
        state.made(step, wanted)
    assert isinstance(step, Slot)
    point: Any = Moment()
    step.allocation.points = [point]  # type: ignore[attr-defined]
    state.started(step, point, reads)
    point.done = True
    return step, wanted


def test_a_lease_of_one_of_a_batch_keeps_the_block() -> None:
    state = PoolState(1, 4096)
    slot, (first, second) = started(state, 2)
    token = Token()
    note(slot.leases, token)
    state.leased_out(slot, first, 1, 0.0)
    state.landed(slot, second, 1, 0.0)
    assert (state.pending, state.idle) == (1, [])
    del token
    state.lease_over(slot)
    assert (state.pending, state.idle) == (0, [slot])


def test_a_block_of_which_arrays_were_kept_is_one_too_many_later() -> None:
    state = PoolState(1, 4096)
    kept, (read,) = started(state)
    kept.allocation.reachable = True  # type: ignore[misc]
    state.leased_out(kept, read, 1, 0.0)
    state.lease_over(kept)
    other, (read,) = started(state)
    assert other is not kept
    state.landed(other, read, 1, 0.0)
    kept.allocation.reachable = False  # type: ignore[misc]
    state.collect()
    assert (state.idle, state.surplus, list(state.resting)) == ([other], [kept], [])


class StateModel(RuleBasedStateMachine):
    """Three blocks of 4 KiB, and reads of one or two that are started, landed, leased, dropped, cancelled."""

    DEPTH = 3

    def __init__(self) -> None:
        super().__init__()
        self.state = PoolState(self.DEPTH, 4096)
        self.starting: list[tuple[Slot, list[Read]]] = []
        self.reads: list[tuple[Slot, Read]] = []  # submitted, in order
        self.leases: list[tuple[Slot, Token]] = []
        self.given_up: list[Slot] = []  # of cancelled and dropped reads, perhaps in flight
        self.reached: list[Slot] = []
        self.total = self.completed = self.cancelled = 0

    def users(self) -> set[Slot]:
        """Return the blocks that nothing else may have."""
        return (
            {slot for slot, _ in (*self.starting, *self.reads, *self.leases)}
            | self.flying()
            | {slot for slot in self.reached if slot.allocation.reachable}
        )

    @rule(reads=st.integers(1, 2), nbytes=st.sampled_from((1, 4096, 5000, 9000)))
    def lend(self, reads: int, nbytes: int) -> None:
        wanted: list[Any] = [Read() for _ in range(reads)]
        step = self._lend(wanted, nbytes)
        if step is FULL:
            self.state.collect()
            step = self._lend(wanted, nbytes)
        used = self.users()
        if step is FULL:
            held = {slot for slot, _ in (*self.starting, *self.reads, *self.leases)}
            assert len(held | self.flying()) == self.DEPTH
            assert not any(slot.point.done for slot, _ in self.reads if slot not in self.leased())
            return
        if isinstance(step, Allocate):
            slot = Slot(Memory(), step.nbytes)  # type: ignore[arg-type]
            self.state.made(slot, wanted)
        else:
            assert isinstance(step, Slot)
            slot = step
        assert slot not in used
        assert slot.nbytes >= nbytes
        self.starting.append((slot, wanted))

    def _lend(self, wanted: list[Any], nbytes: int) -> Any:
        while isinstance(step := self.state.lend(wanted, nbytes), Land):
            assert step.slot.point is not None
            assert step.slot.point.done
            readers = step.slot.readers()
            assert readers
            for read in readers:
                self.land(read)
        return step

    def flying(self) -> set[Slot]:
        """Return the blocks of reads that were given up which the device still writes."""
        return {slot for slot in self.given_up if slot.point is not None and not slot.point.done}

    def leased(self) -> set[Slot]:
        return {slot for slot, _ in self.leases}

    def land(self, read: Read) -> None:
        (slot,) = [slot for slot, other in self.reads if other is read]
        self.reads = [entry for entry in self.reads if entry[1] is not read]
        self.state.landed(slot, read, 1, 0.0)
        self.state.landed(slot, read, 1, 0.0)  # told twice
        self.completed += 1

    @precondition(lambda self: self.starting)
    @rule(outcome=st.sampled_from(("submitted", "refused", "interrupted")), reached=st.booleans())
    def start(self, outcome: str, reached: bool) -> None:
        slot, wanted = self.starting.pop(0)
        if outcome != "refused":
            point: Any = Moment()
            slot.allocation.points = [point]  # type: ignore[attr-defined]
        if outcome == "submitted":
            self.state.started(slot, point, len(wanted))
            self.reads += [(slot, read) for read in wanted]
            self.total += len(wanted)
        elif outcome == "refused" or reached:
            self.state.withdrawn(slot, wanted)
        # else nothing tells of the interrupted call but that its reads are gone

    @precondition(lambda self: self.reads or self.given_up)
    @rule()
    def complete_one(self) -> None:
        flying = [slot for slot in (*(slot for slot, _ in self.reads), *self.given_up) if slot.point]
        for slot in flying:
            if not slot.point.done:  # type: ignore[union-attr]
                slot.point.done = True  # type: ignore[union-attr, misc]
                return

    @precondition(lambda self: self.reads)
    @rule(which=st.integers(0, 9))
    def take(self, which: int) -> None:
        slot, read = self.reads[which % len(self.reads)]
        if slot.point is not None and slot.point.done:
            self.land(read)

    @precondition(lambda self: self.reads)
    @rule(which=st.integers(0, 9), drop=st.booleans())
    def give_up(self, which: int, drop: bool) -> None:
        slot, read = self.reads.pop(which % len(self.reads))
        if not drop:
            self.state.cancelled(slot, read)
        del read
        self.given_up.append(slot)
        self.cancelled += 1

    @precondition(lambda self: self.reads)
    @rule(which=st.integers(0, 9))
    def lease(self, which: int) -> None:
        place = which % len(self.reads)
        slot, read = self.reads[place]
        if slot.point is None or not slot.point.done:
            return
        del self.reads[place]
        token = Token()
        note(slot.leases, token)
        self.state.leased_out(slot, read, 1, 0.0)
        self.leases.append((slot, token))
        self.completed += 1

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 9), told=st.booleans(), reached=st.booleans())
    def end_lease(self, which: int, told: bool, reached: bool) -> None:
        slot, token = self.leases.pop(which % len(self.leases))
        if reached:
            slot.allocation.reachable = True  # type: ignore[misc]
            self.reached.append(slot)
        del token
        if told:
            self.state.lease_over(slot)

    @precondition(lambda self: self.reached)
    @rule(which=st.integers(0, 9))
    def let_go(self, which: int) -> None:
        self.reached.pop(which % len(self.reached)).allocation.reachable = False  # type: ignore[misc]

    @rule()
    def collect(self) -> None:
        self.state.collect()
        counts = self.state.counts
        assert (counts.total, counts.completed, counts.cancelled) == (
            self.total,
            self.completed,
            self.cancelled,
        )
        held = {slot for slot, _ in (*self.starting, *self.reads, *self.leases)}
        assert self.state.pending == len(held | self.flying())

    @invariant()
    def a_block_is_in_one_room_and_depth_holds(self) -> None:
        slots = self.state.slots()
        assert len(slots) == len(set(slots))
        assert self.state.pending + len(self.state.idle) <= self.DEPTH
        for slot in self.state.idle:
            assert slot not in self.users()
            assert not slot.reads
            assert all(point.done for point in slot.allocation.uses())
        self.state.surplus.clear()


TestStateModel = StateModel.TestCase
TestStateModel.settings = settings(max_examples=200, stateful_step_count=40, deadline=None, derandomize=True)
