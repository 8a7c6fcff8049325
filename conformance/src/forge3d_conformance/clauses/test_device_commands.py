"""Command lists: any offset and any size, each byte where it belongs and no other byte changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate, product
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import KINDS, contents, writing
from forge3d_conformance.clauses.staging import Bytes, landed
from forge3d_core.errors import OutOfRange, StateError, UsageError
from forge3d_core.protocols import Buffer, CommandList, Device

SIZES = (*range(10), 15, 16, 17, 31, 63, 64, 65, 255, 256, 257)
GUARD = 8
"""Bytes on either side of what a command writes, which must stay as they are."""

KIB, MIB = 1 << 10, 1 << 20
CHUNKS = (64 * KIB, 256 * KIB, MIB)
"""Sizes in which drivers split work: exact multiples of them are where a loop ends too early."""


@attrs.frozen
class Step:
    """A fill with ``value``, or a copy from ``source`` where there is one, for a list and for a model."""

    offset: int
    nbytes: int
    value: int = 0
    source: int | None = None

    def record(self, commands: CommandList, source: Buffer, target: Buffer) -> None:
        if self.source is None:
            commands.fill(target, self.value, offset=self.offset, nbytes=self.nbytes)
        else:
            commands.copy(source, target, self.nbytes, source_offset=self.source, target_offset=self.offset)

    def apply(self, source: Bytes, target: Bytes) -> None:
        end = self.offset + self.nbytes
        if self.source is None:
            target[self.offset : end] = self.value
        else:
            target[self.offset : end] = source[self.source : self.source + self.nbytes]

    def __str__(self) -> str:
        if self.source is None:
            return f"a fill of {self.nbytes} bytes at {self.offset}"
        return f"a copy of {self.nbytes} bytes from {self.source} to {self.offset}"


def run(bench: Bench, device: Device, steps: list[Step], room: int) -> None:
    """Run ``steps`` in one list from one buffer to another, and compare every byte of both."""
    source, target = filled(bench, device, room), filled(bench, device, room)
    models = [contents(bench, device, buffer).copy() for buffer in (source, target)]
    commands = device.command_list()
    for step in steps:
        step.record(commands, source, target)
        step.apply(*models)
    bench.wait(device.submit(commands))
    bench.same(landed(bench, device, source), models[0], "what was only copied from")
    seen = landed(bench, device, target)
    wrong = np.flatnonzero(seen != models[1])
    if wrong.size:
        at = int(wrong[0])
        step = min(steps, key=lambda s: max(s.offset - at, at + 1 - s.offset - s.nbytes, 0))
        bench.check(
            False,
            f"after {step} byte {at} is {seen[at]} where {models[1][at]} was expected; {wrong.size} of "
            f"{seen.size} bytes differ",
        )


def filled(bench: Bench, device: Device, nbytes: int) -> Buffer:
    """Return a buffer of random bytes."""
    buffer, data = device.create_buffer(nbytes), bench.payload(nbytes)
    if "peek" in bench.capabilities:
        bench.poke(device, buffer, data)
    else:
        with device.staging_ring(ring_count=1, buffer_size=max(4096, min(nbytes, MIB))) as ring:
            bench.wait(ring.upload(data, buffer, timeout=bench.patience))
    return buffer


def laid_out(shapes: list[tuple[int, int]], what: Callable[[int, int, int], Step]) -> list[Step]:
    """Return steps of (phase, nbytes), one behind the other with guard bytes between."""
    starts = accumulate((size + 2 * GUARD + 8 for _, size in shapes), initial=GUARD)
    return [
        what(8 * (start // 8) + phase, size, place)
        for place, ((phase, size), start) in enumerate(zip(shapes, starts, strict=False))
    ]


@pytest.mark.clause("device.commands")
def test_fills_of_every_phase_and_size_write_their_own_bytes(bench: Bench) -> None:
    shapes = [(phase, size) for size in SIZES for phase in range(8)]
    steps = laid_out(shapes, lambda at, size, place: Step(at, size, 1 + place % 255))
    run(bench, bench.open(), steps, steps[-1].offset + SIZES[-1] + GUARD)


@pytest.mark.clause("device.commands")
@pytest.mark.parametrize("lead", range(4))
def test_copies_of_every_phase_and_size_write_their_own_bytes(bench: Bench, lead: int) -> None:
    """Whatever the two offsets are modulo a word; ``lead`` is by how much they disagree."""
    shapes = [(phase, size) for size in SIZES for phase in range(4)]
    steps = laid_out(shapes, lambda at, size, _place: Step(at, size, source=at + lead))
    run(bench, bench.open(), steps, steps[-1].offset + SIZES[-1] + GUARD + lead)


def large(room: int) -> Iterator[int]:
    for chunk in CHUNKS:
        for times in (1, 2, 3):
            yield from (times * chunk + off for off in (-1, 0, 1, 5))
    yield from (4 * MIB, 4 * MIB + 3, room)


@pytest.mark.clause("device.commands")
@pytest.mark.parametrize("kind", ["fill", "copy"])
def test_large_commands_write_to_their_ends(bench: Bench, kind: str) -> None:
    """Multiples of what a driver may split by, offsets past 16 bits, and more than 4 MiB."""
    device = bench.open()
    room = min(4 * MIB + 200 * KIB, device.limits.max_buffer_size)
    source, target = filled(bench, device, room), device.create_buffer(room)
    bytes_of = contents(bench, device, source)
    wanted: Bytes = np.zeros(room, np.uint8)
    for place, size in enumerate(sorted({n for n in large(room) if n <= room})):
        most = room - size
        offset, start = min(most, 65_541), min(most, 70_003)
        value = 1 + place % 255
        step = Step(offset, size, value, None if kind == "fill" else start)
        commands = device.command_list().fill(target, 0)
        wanted[:] = 0
        step.record(commands, source, target)
        step.apply(bytes_of, wanted)
        bench.wait(device.submit(commands))
        bench.same(landed(bench, device, target), wanted, f"memory after {step}")


@pytest.mark.clause("device.commands")
@pytest.mark.parametrize("kind", ["fill", "copy"])
def test_commands_reach_past_16_mib(bench: Bench, kind: str) -> None:
    """More than 65 535 groups of 64 words, and odd offsets that are no whole number of a float."""
    device = bench.open()
    room = min(17 * MIB + 7, device.limits.max_buffer_size)
    source, target = device.create_buffer(room), device.create_buffer(room)
    bench.wait(device.submit(device.command_list().fill(source, 3).fill(source, 4, offset=room - 1001)))
    wanted: Bytes = np.zeros(room, np.uint8)
    bytes_of = np.full(room, 3, np.uint8)
    bytes_of[-1001:] = 4
    for step in (Step(1, room - 2, 3, source=2), Step(room - 1004, 998, 6, source=room - 1000)):
        step = step if kind == "copy" else attrs.evolve(step, source=None)
        commands = device.command_list()
        step.record(commands, source, target)
        step.apply(bytes_of, wanted)
        bench.wait(device.submit(commands))
        bench.same(landed(bench, device, target), wanted, f"memory after {step}")


@pytest.mark.clause("device.commands")
def test_copies_within_one_buffer_go_both_ways(bench: Bench) -> None:
    device = bench.open()
    room = min(MIB, device.limits.max_buffer_size)
    buffer = filled(bench, device, room)
    wanted = contents(bench, device, buffer).copy()
    half = room // 2
    for nbytes in (1, 99, 4096, 70_001, 300_003):
        for source, target in ((3, half + 1), (half + 2, 5), (half, 0)):
            commands = device.command_list()
            commands.copy(buffer, buffer, nbytes, source_offset=source, target_offset=target)
            wanted[target : target + nbytes] = wanted[source : source + nbytes].copy()
            bench.wait(device.submit(commands))
            what = f"memory after a copy of {nbytes} bytes from {source} to {target} of one buffer"
            bench.same(landed(bench, device, buffer), wanted, what)


@pytest.mark.clause("device.commands")
@given(
    steps=st.lists(
        st.builds(
            Step,
            offset=st.integers(0, 600),
            nbytes=st.integers(0, 400),
            value=st.integers(0, 255),
            source=st.none() | st.integers(0, 600),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_commands_of_a_list_run_in_the_order_of_recording(bench: Bench, steps: list[Step]) -> None:
    with bench.open() as device:
        run(bench, device, steps, 1001)


@pytest.mark.clause("device.commands")
@pytest.mark.parametrize("kind", KINDS)
def test_lists_of_any_length_run_to_their_end(bench: Bench, kind: str) -> None:
    """The point of a list stands behind its last command, however many there are."""
    device = bench.open()
    for length in (1, 15, 16, 17, 33, 64, 65, 129, 257, 1025):
        buffers = [device.create_buffer(256) for _ in range(3)]
        write = writing(bench, device, kind, length % 256, 256)
        other = writing(bench, device, kind, 255 - length % 256, 256)
        commands = device.command_list()
        for place in range(length - 1):
            other(commands, buffers[place % 3])
        write(commands, buffers[2])
        bench.check(len(commands) == length, f"a list of {length} commands says {len(commands)}")
        bench.wait(device.submit(commands))
        wanted = np.full(256, length % 256, np.uint8)
        bench.same(landed(bench, device, buffers[2]), wanted, f"after a list of {length} commands, memory")


@pytest.mark.clause("device.commands")
def test_what_is_left_out_is_what_fits(bench: Bench) -> None:
    device = bench.open()
    small, big = filled(bench, device, 99), filled(bench, device, 257)
    source, wanted = contents(bench, device, small).copy(), contents(bench, device, big).copy()
    commands = device.command_list().copy(small, big, source_offset=3, target_offset=5)
    commands.copy(small, big, target_offset=250)
    commands.fill(big, offset=200, nbytes=3).fill(big, 9, offset=240)
    commands.copy(small, big, 14, source_offset=85, target_offset=243)
    wanted[5 : 5 + 96] = source[3:]
    wanted[200:203] = 0
    wanted[240:] = 9
    wanted[243:] = source[85:]
    bench.wait(device.submit(commands))
    bench.same(landed(bench, device, big), wanted, "memory after commands that leave out how much")
    bench.same(landed(bench, device, small), source, "what was only copied from")


@pytest.mark.clause("device.commands")
def test_what_cannot_be_is_refused_and_not_recorded(bench: Bench) -> None:
    device = bench.open()
    one, two = filled(bench, device, 1000), filled(bench, device, 100)
    before = contents(bench, device, one).copy(), contents(bench, device, two).copy()
    commands = device.command_list()
    ways: dict[str, Callable[[], Any]] = {
        "a fill past the end": lambda: commands.fill(two, 1, offset=90, nbytes=11),
        "a fill of more than there is": lambda: commands.fill(two, 1, nbytes=101),
        "a fill behind the end": lambda: commands.fill(two, 1, offset=101, nbytes=1),
        "a copy past the end of its source": lambda: commands.copy(two, one, 100, source_offset=1),
        "a copy past the end of its target": lambda: commands.copy(one, two, 100, target_offset=1),
        "a copy of more than fits": lambda: commands.copy(one, two, 101),
        "an offset before the beginning": lambda: commands.fill(two, 1, offset=-1, nbytes=1),
    }
    for what, way in ways.items():
        with bench.raises(OutOfRange, what):
            way()
    for first, second in product((0, 50, 99), repeat=2):
        with bench.raises(UsageError, f"a copy of 100 bytes from {first} to {second} of one buffer"):
            commands.copy(one, one, 100, source_offset=first, target_offset=second)
    bench.check(len(commands) == 0, f"commands that were refused left {len(commands)} in their list")
    commands.copy(one, one, 100, source_offset=300, target_offset=400)
    bench.wait(device.submit(commands))
    before[0][400:500] = before[0][300:400]
    with bench.raises(StateError, "a list that is submitted again"):
        device.submit(commands)
    with bench.raises(StateError, "a command recorded on a list that was submitted"):
        commands.fill(two, 7)
    device.wait_idle(bench.patience)
    for buffer, wanted in zip((one, two), before, strict=True):
        bench.same(landed(bench, device, buffer), wanted, "memory after commands that were refused")
