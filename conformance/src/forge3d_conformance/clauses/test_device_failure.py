"""A kernel that fails while it runs: its lane has failed, and what depends on it, and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import asleep, contents, fill
from forge3d_conformance.clauses.staging import landed
from forge3d_core.errors import ForgeError, KernelError
from forge3d_core.protocols import Buffer, Device, FencePoint, Kernel

BYTES = 256


@attrs.frozen
class Failing:
    """A device whose first lane is about to fail, and what else there is on it."""

    bench: Bench
    device: Device
    kernel: Kernel
    spoilt: Buffer

    def fail(self, lane: str) -> FencePoint:
        commands = self.device.command_list().dispatch(self.kernel, [self.spoilt], threads=1)
        return self.device.submit(commands, lane=lane)

    def told(self, what: str, call: Callable[[], Any]) -> Exception:
        """Return the error that ``call`` raises, at once or when the point that it returns is waited for."""
        with self.bench.raises(ForgeError, what) as caught:
            point = call()
            point.wait(self.bench.patience)
        return caught[0]


def failing(bench: Bench) -> Failing:
    device = bench.open(drain_timeout=1.0)
    return Failing(bench, device, device.create_kernel(bench.kernel("fail")), device.create_buffer(BYTES))


def closed(bench: Bench, device: Device) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        device.close()
    left = device.budget.metrics().total_bytes
    bench.check(left == 0, f"{left} bytes are charged after a device was closed on which a kernel failed")


@pytest.mark.clause("device.failure")
def test_a_kernel_that_fails_is_told_to_all_who_wait_for_it(bench: Bench) -> None:
    case = failing(bench)
    lane, told = bench.lanes[0], list[Exception | None]()
    point = case.fail(lane)
    point.on_done(lambda _point, error: told.append(error))
    with bench.raises(KernelError, "a wait for a kernel that fails while it runs"):
        point.wait(bench.patience)
    with bench.raises(KernelError, "an await of a kernel that fails while it runs"):
        asleep(bench, point)
    bench.check(not point.done, "a kernel that failed while it ran is done")
    bench.until(lambda: told, "the callback of a kernel that failed while it ran")
    bench.check(
        isinstance(told[0], KernelError), f"the callback of a kernel that failed was given {told[0]!r}"
    )
    timeline = case.device.lanes[lane].timeline
    bench.check(timeline.completed < point.value, "completed counts a kernel that failed while it ran")
    bench.check(isinstance(timeline.failure, KernelError), f"the lane's failure is {timeline.failure!r}")
    closed(bench, case.device)


@pytest.mark.clause("device.failure")
def test_what_comes_later_on_the_lane_fails_and_does_nothing(bench: Bench) -> None:
    case = failing(bench)
    lane, target = bench.lanes[0], case.device.create_buffer(BYTES)
    case.fail(lane)
    for round in range(3):
        case.told(
            f"submission {round + 1} to a lane behind a kernel that fails",
            lambda: fill(case.device, target, 9, lane),
        )
    if "peek" in bench.capabilities:
        seen = landed(bench, case.device, target)
        bench.same(seen, np.zeros(BYTES, np.uint8), "memory that work behind a failed kernel was to write")
    closed(bench, case.device)


@pytest.mark.clause("device.failure", requires=("fail", "concurrent_lanes"))
@pytest.mark.parametrize("how", ["its memory", "after"])
def test_what_depends_on_it_fails_and_other_lanes_go_on(bench: Bench, how: str) -> None:
    case = failing(bench)
    device = case.device
    first, second, third = bench.lanes[:3]
    target, free = device.create_buffer(BYTES), device.create_buffer(BYTES)
    point = case.fail(first)
    if how == "its memory":
        depends = lambda: device.submit(device.command_list().copy(case.spoilt, target), lane=second)  # noqa: E731
    else:
        depends = lambda: fill(device, target, 9, second, [point])  # noqa: E731
    case.told(f"work that depends, by {how}, on a kernel that failed", depends)
    bench.wait(fill(device, free, 5, third), "work on a lane beside one that failed")
    bench.check(device.lanes[third].timeline.failure is None, "a lane that depends on nothing failed as well")
    if "peek" in bench.capabilities:
        seen = landed(bench, device, target)
        bench.same(seen, np.zeros(BYTES, np.uint8), "memory that was to depend on a failed kernel")
    bench.same(contents(bench, device, free), np.full(BYTES, 5, np.uint8), "memory of another lane")
    closed(bench, device)


@pytest.mark.clause("device.failure")
def test_a_device_opened_after_a_failure_is_whole(bench: Bench) -> None:
    case = failing(bench)
    case.told("a kernel that fails while it runs", lambda: case.fail(bench.lanes[0]))
    with bench.open() as device:
        buffer = device.create_buffer(BYTES)
        for lane in bench.lanes:
            bench.wait(fill(device, buffer, 3, lane), f"work on {lane!r} of another device")
        bench.same(contents(bench, device, buffer), np.full(BYTES, 3, np.uint8), "memory of another device")
    closed(bench, case.device)
