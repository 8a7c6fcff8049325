"""The pure state of a ring against a model of it: where slices lie, what is due, and what comes back."""

from __future__ import annotations

from typing import Any, cast

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forge3d_core.driver import Upload
from forge3d_core.memory.allocator import Allocation
from forge3d_core.protocols import FencePoint
from forge3d_core.ring.block import Block, Lent, Phase, Staged
from forge3d_core.ring.state import RingState

SIZE, ALIGNMENT = 100, 16
MEMORY: Any = object()  # what commands name, here never asked for anything


class Slot:
    """Stands for a slice that is out."""


@attrs.define(eq=False)
class Open:
    """A slice as the model knows it."""

    slot: Slot
    lent: Lent
    block: Block
    offset: int
    nbytes: int


def ring_of(count: int) -> RingState:
    return RingState(SIZE, ALIGNMENT, [Block(index, Allocation(None, None)) for index in range(count)])


def point_of(number: int) -> FencePoint:
    return cast(FencePoint, f"point {number}")


class RingMachine(RuleBasedStateMachine):
    """The model of the device is a list of points that are not done, each with its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 3
        self.state = ring_of(self.count)
        self.open: list[Open] = []
        self.rounds: list[list[tuple[int, int]]] = [
            [] for _ in range(self.count)
        ]  # offset and size, by block
        self.flying: dict[FencePoint, list[Block]] = {}
        self.points = self.goal = 0
        self.committed: list[tuple[int, int]] = []  # where in the target, how much
        self.arrived: list[tuple[int, int]] = []

    @precondition(lambda self: len(self.open) < 5)
    @rule(nbytes=st.integers(1, SIZE), eager=st.booleans())
    def place(self, nbytes: int, eager: bool) -> None:
        before = self.state.index, self.state.allocated
        block, offset = self.state.place(nbytes, eager)
        if offset is None:
            assert block.phase is not Phase.OPEN or self.state.blocks[before[0]].cursor
            assert self.state.allocated == before[1]
            assert eager or self.state.index == before[0]
            return
        assert offset % ALIGNMENT == 0
        assert offset + nbytes <= SIZE
        assert self.state.blocks[self.state.index] is block
        assert block.phase is Phase.OPEN
        assert all(offset >= start + size for start, size in self.rounds[block.index]), "slices overlap"
        self.rounds[block.index].append((offset, nbytes))
        slot = Slot()
        lent = Lent(slot, block.outstanding.discard)
        block.outstanding.add(lent)
        self.open.append(Open(slot, lent, block, offset, nbytes))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9), adjacent=st.booleans())
    def commit(self, which: int, adjacent: bool) -> None:
        one = self.open.pop(which % len(self.open))
        self.goal += 0 if adjacent else 1000
        command = Upload(one.block.allocation.native, one.offset, MEMORY, self.goal, one.nbytes)
        self.committed.append((self.goal, one.nbytes))
        self.goal += one.nbytes
        staged = one.block.targets.get(MEMORY) or Staged(one.block.allocation)
        self.state.commit(one.block, one.lent, command, staged, one.nbytes)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9), drop=st.booleans())
    def release(self, which: int, drop: bool) -> None:
        one = self.open.pop(which % len(self.open))
        if not drop:
            self.state.release(one.block, one.lent)
        known = one.block.outstanding
        del one
        assert len(known) == sum(other.block.outstanding is known for other in self.open)

    @rule()
    def seal(self) -> None:
        self.state.seal()

    @rule(seen=st.booleans())
    def submit(self, seen: bool) -> None:
        """Submit what is due, and note it, unless an interrupt comes before that."""
        blocks = self.state.due()
        assert not any(block.outstanding for block in blocks)
        assert blocks == self.state.sealed[: len(blocks)]
        left = self.state.sealed[len(blocks) :]
        assert not left or left[0].outstanding
        if not seen or not blocks:
            return
        copies = [command for block in blocks for command in block.commands]
        point = None
        if copies:
            self.points += 1
            point = point_of(self.points)
            self.flying[point] = [block for block in blocks if block.commands]
            for command in copies:
                assert isinstance(command, Upload)
                self.arrived.append((command.offset, command.nbytes))
        self.state.submitted(blocks, point)
        for block in blocks:
            if block.phase is Phase.OPEN:
                self.rounds[block.index].clear()

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 9))
    def complete(self, which: int) -> None:
        point = list(self.flying)[which % len(self.flying)]
        for block in self.flying.pop(point):
            self.state.complete(block, point_of(0))  # of another round: nothing changes
            assert block.phase is Phase.IN_FLIGHT
            self.state.complete(block, point)
            assert (block.phase, block.cursor, block.flying) == (Phase.OPEN, 0, 0)
            self.rounds[block.index].clear()

    @invariant()
    def a_block_in_flight_is_one_that_the_device_has(self) -> None:
        flying = [block for blocks in self.flying.values() for block in blocks]
        assert {block.index for block in flying} == {
            block.index for block in self.state.blocks if block.phase is Phase.IN_FLIGHT
        }
        assert self.state.submissions == self.points
        assert self.state.last == (point_of(self.points) if self.points else None)

    @invariant()
    def every_byte_is_committed_once(self) -> None:
        waiting = [command for block in self.state.blocks for command in block.commands]
        copied = [(command.offset, command.nbytes) for command in waiting if isinstance(command, Upload)]
        asked = sorted(at + n for at, size in self.committed for n in range(size))
        assert sorted(at + n for at, size in (*self.arrived, *copied) for n in range(size)) == asked
        assert self.state.staged == len(asked)

    @invariant()
    def bytes_are_in_flight_once_they_are_submitted(self) -> None:
        flying = sum(block.flying for block in self.state.blocks)
        assert flying + sum(block.staged for block in self.state.blocks) <= self.state.staged
        for block in self.state.blocks:
            assert block.staged == sum(staged.nbytes for staged in block.targets.values())
            assert block.phase is Phase.IN_FLIGHT or not block.flying


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)


def committed(state: RingState, nbytes: int, target: Any, offset: int) -> Block:
    block, start = state.place(nbytes)
    assert start is not None
    staged = block.targets.get(target) or Staged(Allocation(target, None))
    state.commit(block, None, Upload(block.allocation.native, start, target, offset, nbytes), staged, nbytes)
    return block


def test_copies_that_go_on_where_the_last_ended_are_one() -> None:
    state = ring_of(1)
    for offset in (0, 16, 32, 50):
        block = committed(state, 16, MEMORY, offset)
    committed(state, 16, "another target", 66)
    spans = [(one.block_offset, one.nbytes) for one in block.commands if isinstance(one, Upload)]
    assert spans == [(0, 48), (48, 16), (64, 16)]


def test_blocks_that_are_due_at_once_are_submitted_at_once() -> None:
    state = ring_of(3)
    first, slot = state.blocks[0], Slot()
    state.place(SIZE)
    lent = Lent(slot, first.outstanding.discard)
    first.outstanding.add(lent)
    for block in state.blocks[1:]:
        assert committed(state, SIZE, MEMORY, 0) is block
    state.seal()
    assert state.due() == []
    state.release(first, lent)
    assert state.due() == state.blocks
    state.submitted(state.due(), point_of(1))
    assert [block.phase for block in state.blocks] == [Phase.OPEN, Phase.IN_FLIGHT, Phase.IN_FLIGHT]
    assert (state.submissions, state.sealed) == (1, [])


def test_copies_to_a_target_are_dropped_alone() -> None:
    state = ring_of(2)
    block = committed(state, 16, MEMORY, 0)
    committed(state, 20, "another target", 0)
    state.seal()
    state.drop([block], [block.targets[MEMORY].allocation])
    assert (len(block.commands), block.staged, state.staged) == (1, 20, 36)
    state.drop([block], [staged.allocation for staged in block.targets.values()])
    state.submitted(state.due(), None)
    assert (block.phase, block.cursor, state.submissions) == (Phase.OPEN, 0, 0)


def test_memory_that_arrays_reach_is_not_handed_out() -> None:
    state = ring_of(2)
    committed(state, SIZE, MEMORY, 0)
    holder = Slot()
    for users in (state.blocks[1].allocation.holds, state.blocks[1].allocation.stale):
        users.add(cast(Any, holder))
        assert state.place(1) == (state.blocks[1], None)
        assert state.blocks[1].occupied
        users.clear()
    assert state.place(1) == (state.blocks[1], 0)
