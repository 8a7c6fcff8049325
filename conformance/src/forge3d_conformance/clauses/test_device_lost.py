"""A device that is lost: everybody is told, and nothing is used again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.belongings import BYTES, belongings
from forge3d_conformance.violation import Tardy
from forge3d_conformance.waiting import PROMPT
from forge3d_core.errors import DeviceLost
from forge3d_core.protocols import Device, FencePoint, ReadbackHandle

BLOCK = 4096


async def awaited(what: FencePoint | ReadbackHandle) -> None:
    await what


def timed(call: Callable[[], object]) -> Callable[[], tuple[BaseException | None, float]]:
    """Return what calls ``call`` and tells what it raised, and when."""

    def run() -> tuple[BaseException | None, float]:
        try:
            call()
        except Exception as error:
            return error, time.monotonic()
        return None, time.monotonic()

    return run


@pytest.mark.clause("device.lost")
def test_everybody_who_waits_is_told_within_a_second(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(BLOCK)
    ring = device.staging_ring(ring_count=1, buffer_size=BLOCK)
    pool = device.readback_pool(max_pending_ops=1, buffer_size=BLOCK)
    future = device.lanes["download"].timeline
    unsubmitted = future.point(future.submitted + 9)
    with bench.hold(device, "compute", 0.8) as hold:
        point = device.submit(device.command_list().fill(buffer, 1))
        ring.upload(np.ones(BLOCK, np.uint8), buffer)
        read = pool.read(buffer)
        asked: dict[str, Callable[[], object]] = {
            "a wait on a point": lambda: point.wait(bench.patience),
            "a wait on a value of another lane that nobody submitted": lambda: unsubmitted.wait(
                bench.patience
            ),
            "an await of a point": lambda: bench.run(awaited(point)),
            "an await of a value that nobody submitted": lambda: bench.run(awaited(unsubmitted)),
            "a wait for a full ring": lambda: ring.reserve(BLOCK, bench.patience),
            "an upload to a full ring": lambda: ring.upload(np.ones(BLOCK, np.uint8), buffer),
            "a wait for a read": lambda: read.wait(bench.patience),
            "an await of a read": lambda: bench.run(awaited(read)),
            "a read from a pool without a free block": lambda: pool.read(buffer),
            "wait_idle": lambda: device.wait_idle(bench.patience),
        }
        waiting = {name: bench.thread(timed(call)) for name, call in asked.items()}
        threading.Event().wait(0.1)  # let them begin to wait
        hold.still()
        lost = time.monotonic()
        bench.lose(device)
        late = {name: told(bench, name, waiter) - lost for name, waiter in waiting.items()}
    slowest = max(late, key=lambda name: late[name])
    if late[slowest] > PROMPT:
        raise Tardy(f"{slowest} was told of the loss after {late[slowest]:.1f} s, not within {PROMPT:g} s")


@pytest.mark.clause("device.lost")
def test_who_waits_with_nothing_in_flight_is_told_too(bench: Bench) -> None:
    device = bench.open()
    bench.wait(device.submit(device.command_list().fill(device.create_buffer(BLOCK), 1)))
    unsubmitted = device.lanes["compute"].timeline.point(99)
    waiting = {
        "a wait on a value that nobody submitted": bench.thread(
            timed(lambda: unsubmitted.wait(bench.patience))
        ),
        "an await of it": bench.thread(timed(lambda: bench.run(awaited(unsubmitted)))),
    }
    threading.Event().wait(0.05)
    lost = time.monotonic()
    bench.lose(device)
    late = {name: told(bench, name, waiter) - lost for name, waiter in waiting.items()}
    if max(late.values()) > PROMPT:
        raise Tardy(f"with nothing in flight the news of the loss took {max(late.values()):.1f} s")


def told(bench: Bench, name: str, waiter: Future[tuple[BaseException | None, float]]) -> float:
    error, when = bench.result(waiter, f"{name}, under way when the device was lost,")
    bench.check(
        isinstance(error, DeviceLost),
        f"{name}, under way when the device was lost, ended with {error!r} instead of DeviceLost",
    )
    return when


LONG = 0.1
"""Seconds that work at least takes which runs when the device is lost."""


@pytest.mark.clause("device.lost", requires=("lose",))
def test_what_runs_when_the_device_is_lost_is_not_done(bench: Bench) -> None:
    """No hold: the device is in the middle of it. It may still come to its end, but no sooner than alone."""
    device = bench.open()
    nbytes = min(4 << 20, device.limits.max_buffer_size)
    buffer = device.create_buffer(nbytes)

    def work(count: int) -> FencePoint:
        commands = device.command_list()
        for value in range(count):
            commands.fill(buffer, value % 256)
        return device.submit(commands)

    def seconds(count: int) -> float:
        started = time.monotonic()
        bench.wait(work(count))
        return time.monotonic() - started

    count = 32
    while (alone := seconds(count)) < LONG and count < 1 << 14:
        count *= 2
    alone = min(alone, seconds(count), seconds(count))
    point = work(count)
    started = time.monotonic()
    waiter = bench.thread(timed(lambda: point.wait(bench.patience)))
    threading.Event().wait(alone / 4)  # let it begin
    bench.lose(device)
    error, when = bench.result(waiter, "a wait for work that ran when the device was lost")
    bench.check(
        isinstance(error, DeviceLost) or (error is None and when - started > alone / 2),
        f"work of {alone:.2f} s that ran when the device was lost ended after {when - started:.2f} s with "
        f"{error!r} instead of DeviceLost",
    )


@pytest.mark.clause("device.lost")
def test_every_later_call_is_told_at_once(bench: Bench) -> None:
    device = bench.open()
    made = belongings(bench, device)
    lose_under_work(bench, device)
    for name, call in made.calls(bench).items():
        started = time.monotonic()
        with bench.raises(DeviceLost, f"{name} after the device was lost"):
            call()
        late = time.monotonic() - started
        if late > PROMPT:
            raise Tardy(f"{name} after the loss was told after {late:.1f} s, not within {PROMPT:g} s")
    bench.check(not device.closed, "a device that was lost says that it was closed")


@pytest.mark.clause("device.lost")
def test_nothing_that_was_in_flight_is_used_again(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(BLOCK)
    ring = device.staging_ring(ring_count=2, buffer_size=BLOCK)
    pool = device.readback_pool(max_pending_ops=1, buffer_size=BLOCK)
    with bench.hold(device, "compute", 0.8) as hold:
        device.submit(device.command_list().fill(buffer, 1))
        points = [ring.upload(np.ones(BLOCK, np.uint8), buffer) for _ in range(2)]
        read = pool.read(buffer)
        hold.still()
        bench.lose(device)
        with bench.raises(DeviceLost, "a wait after the loss"):
            points[-1].wait(bench.patience)
    bench.check(
        not any(point.done for point in points), "an upload that was in flight says done after the loss"
    )
    bench.check(not read.is_complete or failed(read), "a read that was in flight has bytes after the loss")
    for _ in range(3):
        try:
            slot = ring.allocate(16)
        except DeviceLost:
            slot = None
        bench.check(slot is None, "a slice of a block that was in flight was handed out after the loss")
        try:
            bench.check(pool.read(buffer) is None, "a pool reads into a block that was in flight at the loss")
        except DeviceLost:
            pass
    held = device.budget.metrics()
    buffer.close()
    kept = device.budget.metrics()
    bench.check(
        kept.device_local_bytes == held.device_local_bytes,
        f"a buffer in flight when the device was lost was given back: {held.device_local_bytes} bytes became "
        f"{kept.device_local_bytes}",
    )


def failed(read: ReadbackHandle) -> bool:
    try:
        return read.try_get() is None
    except DeviceLost:
        return True


@pytest.mark.clause("device.lost")
def test_a_lost_device_closes_and_another_opens(bench: Bench) -> None:
    device = bench.open()
    lose_under_work(bench, device)
    bench.result(bench.thread(device.close), "close of a lost device")
    left = device.budget.metrics().total_bytes
    bench.check(left == 0, f"a lost device that was closed still holds {left} bytes")
    again = bench.open()
    buffer = again.create_buffer(BYTES)
    bench.wait(again.submit(again.command_list().fill(buffer, 3)), "work on a device opened after a loss")


def lose_under_work(bench: Bench, device: Device) -> None:
    buffer = device.create_buffer(BYTES)
    with bench.hold(device, "compute", 0.3):
        point = device.submit(device.command_list().fill(buffer, 1))
        bench.lose(device)
        with bench.raises(DeviceLost, "a wait when the device was lost"):
            point.wait(bench.patience)


RACE = """
import threading, time
import numpy as np
from forge3d_conformance.child import bench
from forge3d_core.errors import DeviceLost

device = bench.open()
told, begun, data = [], threading.Semaphore(0), np.ones(4096, np.uint8)

def work():
    try:
        buffer, ring = device.create_buffer(4096), device.staging_ring(ring_count=2, buffer_size=2048)
        pool, turn = device.readback_pool(max_pending_ops=2, buffer_size=4096), 0
        while True:
            ring.upload(data, buffer)
            pool.read(buffer)
            turn += 1
            if turn == 2:
                begun.release()
    except BaseException as error:
        told.append((error, time.monotonic()))

workers = [threading.Thread(target=work, daemon=True) for _ in range({threads})]
for worker in workers:
    worker.start()
for worker in workers:
    begun.acquire(timeout=20)
lost = time.monotonic()
bench.lose(device)
for worker in workers:
    worker.join(20)
for error, when in told:
    print(type(error).__name__, f"{when - lost:.3f}", ascii(str(error)))
print("ended", len(told), flush=True)
device.close()
"""


@pytest.mark.clause("device.lost-race")
def test_a_loss_beside_work_of_other_threads_is_device_lost(bench: Bench) -> None:
    for threads in (1, 6) * bench.scale(1, 4):
        ended = bench.child(RACE.replace("{threads}", str(threads)))
        *told, last = ended.stdout.strip().splitlines() or [""]
        bench.check(
            ended.status == 0 and last == f"ended {threads}",
            f"a loss while {threads} thread(s) worked did not end as DeviceLost on each: {ended}",
        )
        for line in told:
            kind, late, message = line.split(" ", 2)
            bench.check(
                kind == "DeviceLost",
                f"a loss while {threads} thread(s) worked was {kind} ({message}) instead of DeviceLost",
            )
            if float(late) > PROMPT:
                raise Tardy(f"a thread at work was told of the loss after {late} s, not within {PROMPT:g} s")
