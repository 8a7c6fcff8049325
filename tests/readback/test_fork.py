"""A handle in a forked child, where the threads that copy and the locks' owners are missing."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.copying import PARALLEL_BYTES
from forge3d_core.device import AssembledDevice
from forge3d_core.errors import Forked


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
            outcome.append(f"quiet {number}: {error!r}")
    report.send(outcome)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_reads_of_the_parents_raise_in_the_child(device: AssembledDevice, patience: float) -> None:
    """However far they had come: complete, landed, leased or in flight."""
    device.copier.threads = 4
    nbytes = 4 * PARALLEL_BYTES
    buffer, pool = device.create_buffer(nbytes), device.readback_pool(buffer_size=nbytes)
    landed = pool.read(buffer)
    landed.wait(patience)  # starts the threads that copy, which the child lacks
    leased, complete = pool.read(buffer), pool.read(buffer)
    lease = leased.lease(patience)
    complete.point.wait(patience)
    with device.native.hold("download"):
        flying = pool.read(buffer)
        handles = [landed, leased, complete, flying]
        calls: list[Callable[[], Any]] = [
            ask
            for handle in handles
            for ask in (
                handle.wait,
                handle.try_get,
                handle.lease,
                lambda handle=handle: asyncio.run(take(handle)),
            )
        ]
        quiet = [*(handle.cancel for handle in handles), lease.release]
        context = multiprocessing.get_context("fork")
        receiving, sending = context.Pipe(duplex=False)
        locks = [pool._changed, *(handle._operation._lock for handle in handles)]
        held, leave = threading.Event(), threading.Event()

        def hold_locks() -> None:  # the worst moment: another thread is inside each of them
            for lock in locks:
                lock.acquire()
            held.set()
            leave.wait(patience)
            for lock in locks:
                lock.release()

        holder = threading.Thread(target=hold_locks)
        holder.start()
        assert held.wait(patience)
        child = context.Process(target=child_uses, args=(calls, quiet, sending), daemon=True)
        child.start()
        leave.set()
        holder.join()
        try:
            assert receiving.poll(patience), "the child hangs"
            assert receiving.recv() == []
        finally:
            child.kill()
            child.join(patience)
    lease.release()
    for handle in (landed, complete, flying):
        assert not handle.wait(patience).any()


async def take(handle: Any) -> Any:
    return await handle
