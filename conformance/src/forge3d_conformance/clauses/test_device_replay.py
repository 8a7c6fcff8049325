"""Command lists that are submitted many times."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import contents, fill
from forge3d_core.errors import Closed, StateError
from forge3d_core.protocols import Buffer, CommandList, Device

WORDS = 64
THREADS, TIMES = 4, 8


def recorded(bench: Bench, device: Device) -> tuple[CommandList, Buffer, Buffer]:
    """Return a list that adds 3 to each word of the first buffer, then copies that to the second."""
    counted, copied = device.create_buffer(4 * WORDS), device.create_buffer(4 * WORDS)
    kernel = device.create_kernel(bench.kernel("increment"))
    commands = device.command_list(reusable=True)
    return (
        commands.dispatch(kernel, [counted], [3, WORDS], threads=WORDS).copy(counted, copied),
        counted,
        copied,
    )


def shows(bench: Bench, device: Device, buffer: Buffer, value: int, what: str) -> None:
    bench.same(contents(bench, device, buffer).view(np.uint32), np.full(WORDS, value, np.uint32), what)


@pytest.mark.clause("device.replay", requires=("reusable_lists",))
def test_each_submission_runs_all_of_it_in_its_place(bench: Bench) -> None:
    device = bench.open()
    commands, counted, copied = recorded(bench, device)
    lanes = cycle(bench.target.limits.lanes)
    points = set()
    for times in range(1, TIMES + 1):
        point = device.submit(commands, lane=next(lanes))
        bench.check(point not in points, f"submission {times} has the point of an earlier one")
        points.add(point)
        if times % 3 == 0:  # as well when nothing waits in between
            shows(bench, device, copied, 3 * times, f"what submission {times} of a list copied")
    fill(device, counted, 0, next(lanes))
    device.submit(commands, lane=next(lanes))
    fill(device, counted, 1, next(lanes))
    shows(bench, device, copied, 3, "a submission between two others that write what it reads")
    shows(bench, device, counted, 0x01010101, "what was written after it")


@pytest.mark.clause("device.replay", requires=("reusable_lists",))
def test_any_thread_may_submit_it(bench: Bench) -> None:
    device = bench.open()
    commands, _, copied = recorded(bench, device)

    def submit() -> None:
        for _ in range(TIMES):
            device.submit(commands)

    for submitting in [bench.thread(submit) for _ in range(THREADS)]:
        bench.result(submitting)
    shows(bench, device, copied, 3 * THREADS * TIMES, f"a list that {THREADS} threads submitted")


@pytest.mark.clause("device.replay", requires=("reusable_lists",))
def test_it_stays_as_it_is_and_needs_its_buffers(bench: Bench) -> None:
    device = bench.open()
    commands, counted, copied = recorded(bench, device)
    commands.fill(copied, 0, nbytes=4)
    bench.wait(device.submit(commands))
    with bench.raises(StateError, "recording on a reusable list that was submitted"):
        commands.fill(counted, 0)
    bench.check(len(commands) == 3, f"a refused command made {len(commands)} of 3")
    bench.wait(device.submit(commands))
    once = device.command_list().fill(counted, 0)
    bench.wait(device.submit(once))
    with bench.raises(StateError, "submitting a list again that is not reusable"):
        device.submit(once)
    counted.close()
    with bench.raises(Closed, "submitting a list that names a closed buffer"):
        device.submit(commands)
    other = device.create_buffer(4 * WORDS)  # where the closed one was, perhaps
    device.wait_idle(bench.patience)
    shows(bench, device, other, 0, "fresh memory after a submission that was refused")


@pytest.mark.clause("device.replay", requires=("reusable_lists",))
def test_it_ends_with_its_device(bench: Bench) -> None:
    device = bench.open()
    commands, _, _ = recorded(bench, device)
    bench.wait(device.submit(commands))
    device.close()
    with bench.raises(Closed, "submitting a reusable list after close"):
        device.submit(commands)
