"""Processes: a device in a forked child, and an interpreter that exits with work in flight."""

from __future__ import annotations

from typing import Any

import pytest

from forge3d_core.device.device import AssembledDevice

from ..fork import complaints_of_a_child
from .script import OPEN, run_script
from .uses import uses


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_child_gets_an_error_and_no_hang(device: AssembledDevice, patience: float) -> None:
    calls = uses(device)
    buffer = device.create_buffer(64)
    ring, pool = device.staging_ring(), device.readback_pool()
    hold = device.native.hold("download")
    handle = pool.read(buffer)
    told: list[Any] = []

    def watch() -> None:
        handle.point.on_done(lambda _point, error: told.append(error))
        raise told[0]

    calls += [lambda: handle.wait(5), lambda: handle.point.wait(5), lambda: handle.lease(5), watch]
    budget = device.budget
    reservation, forget = budget.reserve(16), budget.on_watermark(0.5, lambda _metrics: None)
    calls += [lambda: budget.reserve(16), lambda: budget.reserve(16, timeout=None), lambda: budget.check(16)]
    calls += [lambda: budget.set_limit(1 << 20), lambda: budget.add_reclaimer(lambda _nbytes: 0)]
    calls += [lambda: budget.on_watermark(0.5, lambda _metrics: None)]
    quiet = [lambda: handle.point.done, budget.metrics, reservation.release, forget]
    quiet += [buffer.close, pool.close, ring.close, device.close]
    locks = [pool.blocks.lock, ring.waiting.changed, device.allocator._lock, handle.point.timeline._lock]
    locks += [budget._lock]
    assert complaints_of_a_child(calls, quiet, locks, patience) == []
    hold.release()
    assert handle.wait(20).nbytes == 64  # the parent goes on
    reservation.release()


@pytest.mark.parametrize(
    "busy",
    [
        'hold = device.native.hold("download")\n    handle = device.readback_pool().read(buffer)',
        """hold = device.native.hold("compute")
    device.submit(device.command_list()).on_done(lambda *_: None)""",
        """stuck = device.create_kernel(KernelSource("stuck", {"host": lambda _: threading.Event().wait()}))
    device.submit(device.command_list().dispatch(stuck, [], threads=1))""",
    ],
    ids=["held", "watched", "stuck"],
)
def test_the_interpreter_exits_with_work_in_flight(busy: str) -> None:
    ended = run_script(OPEN + "    " + busy + '\n    print("end")')
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "end", "")
