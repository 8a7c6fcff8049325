"""The parts of a large upload, in whatever order its workers come in: each is submitted once."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from forge3d_core.deadline import NEVER
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.transfer.upload import BulkUpload, Goal
from forge3d_core.transfer.workers import Crew


class FakeChunk:
    """A chunk without memory."""

    allocation = None

    def __init__(self) -> None:
        self.native = self
        self.point: Landing | None = None
        self.given = False

    def view(self) -> None:
        assert self.free, "filled while in flight"

    @property
    def free(self) -> bool:
        return self.point is None or self.point.done


class Interleaved:
    """An upload whose workers come in wherever the calling thread lets go, by a seed, all on this thread.

    Chunks are made here, and the device is done with one when the seed says so. A chunk may be filled only by
    the step that has it, and not while it is in flight.
    """

    def __init__(self, seed: int, parts: int, most: int) -> None:
        self.draw = random.Random(seed)
        self.parts, self.most = parts, most
        self.filled: list[int] = []
        self.made: list[Any] = []
        self.depth = self.submitted = self.completed = 0
        self.submitting = False

    def __len__(self) -> int:
        return self.parts

    def part(self, number: int) -> Any:
        return SimpleNamespace(
            nbytes=1, room=1, fill=lambda _view: self.fill(number), command=lambda native: (native, number)
        )

    def fill(self, number: int) -> None:
        self.let_go()
        self.filled.append(number)

    def take(self, _nbytes: int) -> Any:
        chunk = FakeChunk()
        self.made.append(chunk)
        return chunk if self.draw.random() < 0.8 else None

    def give(self, chunk: Any) -> None:
        assert not chunk.given
        chunk.given = True

    def drop(self, _chunks: Any) -> None:
        raise AssertionError("nothing failed")

    def submit(self, _lane: str, commands: Any, *_rest: Any) -> Any:
        assert not self.submitting, "two submissions at once"
        self.submitting = True
        self.let_go()
        self.submitting = False
        self.submitted += 1
        return Landing(self, self.submitted, [number for _, number in commands])

    def let_go(self) -> None:
        if self.depth < 4:
            self.depth += 1
            while self.draw.random() < 0.5:
                self.completed = min(self.submitted, self.completed + self.draw.randrange(2))
                self.upload._help()
            self.depth -= 1


class Landing:
    """A point of that."""

    def __init__(self, world: Interleaved, value: int, numbers: list[int]) -> None:
        self.world, self.value, self.numbers = world, value, numbers

    @property
    def done(self) -> bool:
        return self.world.completed >= self.value

    def wait(self, _timeout: float) -> None:
        self.world.completed = max(self.world.completed, self.value)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_wherever_workers_come_in_each_part_is_submitted_once(most: int) -> None:
    for seed in range(300):
        world = Interleaved(seed, parts=1 + seed % 17, most=most)
        goal = Goal(world.submit, "upload", None, lambda: None, NEVER)  # type: ignore[arg-type]
        world.upload = BulkUpload(world, CallGuard(), world, goal, most)  # type: ignore[arg-type]
        first = world.take(1) or world.made[-1]
        point = world.upload.run(Crew(threads=1), 0, first, 1)
        numbers = [number for flight in world.upload.flights for number in flight.point.numbers]
        assert sorted(numbers) == sorted(world.filled) == list(range(len(world))), f"seed {seed}"
        assert point.value == world.submitted, f"seed {seed}"
        assert len(world.upload._mine) <= most, f"seed {seed}"
        assert all(chunk.given for chunk in world.upload._mine), f"seed {seed}"
