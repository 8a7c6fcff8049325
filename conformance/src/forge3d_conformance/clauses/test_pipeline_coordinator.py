"""Operations that depend on each other: they wait, they end once, and a failure stays where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from typing import cast

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_core.errors import FenceTimeout, ForgeError, UsageError
from forge3d_core.pipeline import AsyncCoordinator, BufferState, TripleBuffer, TripleSlot
from forge3d_core.protocols import Device

NBYTES = 256
MOST = 32
ROLES = ("upload", "compute", "download")


def queuer(bench: Bench, device: Device, coordinator: AsyncCoordinator) -> Callable[[str, list[int]], int]:
    """Return what queues an operation of a kind behind others, each on memory of its own."""
    data, outs = np.full(NBYTES, 7, np.uint8), []

    def queue(kind: str, deps: list[int]) -> int:
        buffer = device.create_buffer(NBYTES)
        if kind == "upload":
            return coordinator.queue_upload(data, buffer, deps, timeout=bench.patience)
        if kind == "compute":
            return coordinator.queue_compute(device.command_list().fill(buffer, 1), deps)
        outs.append(np.zeros(NBYTES, np.uint8))
        return coordinator.queue_download(buffer, outs[-1], deps)

    return queue


@contextmanager
def coordinated(bench: Bench, device: Device) -> Iterator[AsyncCoordinator]:
    """Yield a coordinator whose ring and pool have room for all that a test keeps in flight."""
    with (
        device.staging_ring(ring_count=8, buffer_size=NBYTES) as ring,
        device.readback_pool(max_pending_ops=MOST, buffer_size=NBYTES) as pool,
        bench.make(AsyncCoordinator, device, ring=ring, pool=pool) as coordinator,
    ):
        yield coordinator


def ended(coordinator: AsyncCoordinator, operation: int) -> bool:
    try:
        coordinator.wait(operation, 0.01)
    except FenceTimeout:
        return False
    return True


@pytest.mark.clause("pipeline.deps", requires=("hold",))
def test_an_operation_waits_for_all_that_it_depends_on(bench: Bench) -> None:
    device = bench.open()
    with coordinated(bench, device) as coordinator:
        queue = queuer(bench, device, coordinator)
        for held in ROLES:
            free = [role for role in ROLES if role != held]
            for kind in free if "concurrent_lanes" in bench.capabilities else ROLES:
                idle = [queue(role, []) for role in free]
                with bench.hold(device, held, 0.2) as hold:
                    blocked = queue(held, [])
                    fork = list[int]()
                    for place in range(len(idle) + 1):  # the one that is held is anywhere among them
                        fork.append(queue(kind, [*idle[:place], blocked, *idle[place:]]))
                        bench.check(
                            not hold.observe(ended, coordinator, fork[-1]),
                            f"{kind} ended before {held}, which is {place + 1}. of what it depends on",
                        )
                    joined = queue(kind, fork)
                    bench.check(
                        not hold.observe(ended, coordinator, joined),
                        f"{kind} ended before {len(fork)} operations that it depends on",
                    )
                coordinator.synchronize_all(bench.patience)


@pytest.mark.clause("pipeline.deps", requires=("hold", "concurrent_lanes"))
def test_an_operation_waits_for_the_last_of_those_in_flight(bench: Bench) -> None:
    device = bench.open()
    with coordinated(bench, device) as coordinator:
        queue = queuer(bench, device, coordinator)
        for longer, shorter, kind in permutations(ROLES):
            with bench.hold(device, longer, 0.4) as hold:
                last = queue(longer, [])
                with bench.hold(device, shorter, 0.1):
                    first = queue(shorter, [])
                    both = [queue(kind, deps) for deps in ([first, last], [last, first])]
                coordinator.wait(first, bench.patience)
                for place, operation in enumerate(both):
                    bench.check(
                        not hold.observe(ended, coordinator, operation),
                        f"{kind} ended before {longer}, which is {2 - place}. of what it depends on",
                    )
            coordinator.synchronize_all(bench.patience)


@pytest.mark.clause("pipeline.deps")
def test_an_unknown_dependency_is_refused_when_it_is_queued(bench: Bench) -> None:
    device = bench.open()
    with coordinated(bench, device) as coordinator:
        queue = queuer(bench, device, coordinator)
        known = queue("compute", [])
        for kind in ROLES:
            for deps in ([known + 1], [known, 10**9], [0], [-1]):
                with bench.raises(UsageError, f"{kind} behind {deps} of {known} operations"):
                    queue(kind, deps)
        coordinator.synchronize_all(bench.patience)
        told = [completion.op_id for completion in coordinator.poll()]
        bench.check(told == [known], f"after refusals the operations that ended are {told}, not {[known]}")


@pytest.mark.clause("pipeline.poll")
def test_each_operation_is_reported_once_when_it_has_ended(bench: Bench) -> None:
    device = bench.open()
    with coordinated(bench, device) as coordinator:
        queue, kinds, told = queuer(bench, device, coordinator), dict[int, str](), list[int]()
        for _ in range(bench.scale(60, 2000)):
            deps = [int(bench.random.integers(1, len(kinds) + 1))] if kinds else []
            kind = ROLES[int(bench.random.integers(3))]
            kinds[queue(kind, deps)] = kind
            if bench.random.integers(4) == 0:
                for completion in coordinator.poll():
                    told.append(completion.op_id)
                    said = completion.op_type
                    bench.check(said == kinds.get(completion.op_id), f"{completion!r} is of another kind")
                    bench.check(ended(coordinator, completion.op_id), f"{completion!r} has not ended")
        coordinator.synchronize_all(bench.patience)
        told += [completion.op_id for completion in coordinator.poll()]
        bench.check(len(set(told)) == len(told), f"an operation was reported twice: {sorted(told)}")
        missing = sorted(kinds.keys() - set(told))
        bench.check(not missing, f"operations were never reported: {missing}")
        bench.check(not coordinator.poll(), "operations are reported again")


@pytest.mark.clause("pipeline.poll", requires=("hold",))
def test_poll_waits_for_no_lane(bench: Bench) -> None:
    device = bench.open()
    with coordinated(bench, device) as coordinator:
        queue = queuer(bench, device, coordinator)
        early = queue("compute", [])
        coordinator.wait(early, bench.patience)
        with bench.hold(device, "compute") as hold:
            late = queue("compute", [])
            told = hold.promptly(coordinator.poll)
            numbers = [completion.op_id for completion in told]
            bench.check(numbers == [early], f"poll reports {numbers}; {early} has ended and {late} is held")
        coordinator.synchronize_all(bench.patience)
        numbers = [completion.op_id for completion in coordinator.poll()]
        bench.check(numbers == [late], f"poll reports {numbers} after {late} was let go")


@pytest.mark.clause("pipeline.poll")
def test_threads_that_poll_share_the_reports(bench: Bench) -> None:
    device = bench.open()
    with coordinated(bench, device) as coordinator:
        queue = queuer(bench, device, coordinator)
        operations = [queue(ROLES[number % 3], []) for number in range(30)]
        coordinator.synchronize_all(bench.patience)
        with bench.racing():
            polls = [bench.thread(coordinator.poll) for _ in range(4)]
            told = [one.op_id for poll in polls for one in bench.result(poll, "poll")]
        bench.check(sorted(told) == operations, f"four threads were told {sorted(told)}, not each once")


@pytest.mark.clause("pipeline.poisoned", requires=("driver",))
def test_a_failure_fails_what_depends_on_it_and_no_other(bench: Bench) -> None:
    device, driver = bench.breakable(drain_timeout=0.1)
    with coordinated(bench, device) as coordinator, TripleBuffer(device, NBYTES) as triple:
        queue, data = queuer(bench, device, coordinator), np.full(NBYTES, 9, np.uint8)
        before = queue("upload", [])
        coordinator.queue_upload(data, triple, timeout=bench.patience)
        coordinator.synchronize_all(bench.patience)
        coordinator.poll()
        driver.fail("query", device.lanes["compute"].name, LookupError("the test's own"))
        failing = queue("compute", [before])
        with bench.raises(ForgeError, "a wait for an operation that failed"):
            coordinator.wait(failing, bench.patience)
        with bench.raises(ForgeError, "an operation behind one that failed"):
            behind = queue("download", [failing])
            coordinator.wait(behind, bench.patience)
        apart = len({device.lanes[role].name for role in ROLES}) == len(ROLES)
        good = [queue("upload", []), queue("download", [before])] if apart else []
        for operation in good:
            coordinator.wait(operation, bench.patience)
        ends = {completion.op_id: completion.error for completion in coordinator.poll()}
        failed = sorted(number for number, error in ends.items() if error is not None)
        bench.check(failing in failed, f"{failing} failed and is not reported so: {ends}")
        wrong = [number for number in good if ends.get(number, "missing") is not None]
        bench.check(not wrong, f"{wrong} depend on nothing that failed and are reported as {ends}")
        slot = triple.get_process_buffer()
        bench.check(slot, "the buffer that was filled before the failure is gone")
        triple.abandon(cast(TripleSlot, slot))
        states = triple.get_states()
        bench.check(set(states) == {BufferState.FREE}, f"after the failure buffers stay {states}")
