"""Processes: a device in a forked child, and an interpreter that exits with work in flight."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.device import AssembledDevice
from forge3d_core.errors import Forked

from .script import OPEN, run_script
from .uses import uses


def child_uses(calls: list[Callable[[], Any]], quiet: list[Callable[[], Any]], report: Any) -> None:
    outcome = []
    for number, call in enumerate(calls):
        try:
            call()
            outcome.append(f"call {number} went through")
        except Forked:
            pass
        except BaseException as error:
            outcome.append(f"call {number}: {error!r}")
    for number, call in enumerate(quiet):
        try:
            call()
        except BaseException as error:
            outcome.append(f"close {number}: {error!r}")
    report.send(outcome)


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
    quiet = [lambda: handle.point.done, buffer.close, pool.close, ring.close, device.close]
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    # The worst moment: another thread holds every lock that the child would like.
    locks = [pool._changed, ring._changed, device.allocator._lock, handle.point.timeline._changed]
    entered, leave = threading.Event(), threading.Event()

    def hold_locks() -> None:
        for lock in locks:
            lock.acquire()
        entered.set()
        leave.wait(patience)
        for lock in locks:
            lock.release()

    holder = threading.Thread(target=hold_locks)
    holder.start()
    assert entered.wait(patience)
    child = context.Process(target=child_uses, args=(calls, quiet, sending))
    child.start()
    leave.set()
    holder.join()
    assert receiving.poll(patience), "the child hangs"
    assert receiving.recv() == []
    child.join(patience)
    hold.release()
    assert handle.wait(20).nbytes == 64  # the parent goes on


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
