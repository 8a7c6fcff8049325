"""A device that is closed, and objects that belong to another one."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.belongings import BYTES, DeviceObjects, belongings
from forge3d_core.errors import Closed, ForeignObject, StateError, TooLarge, UsageError


@contextmanager
def unremarked() -> Iterator[None]:
    """Let close remark on what it found: that it tells is good, and not what is tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


@pytest.mark.clause("device.closed")
def test_every_use_after_close_says_closed(bench: Bench) -> None:
    device = bench.open()
    made = belongings(bench, device)
    calls = {**made.calls(bench), **made.budgeting()}
    kept = made.pool.read(made.buffer)
    kept.wait(bench.patience)
    with unremarked():
        device.close()
    bench.check(device.closed, "a device that was closed says that it is not")
    for name, call in calls.items():
        with bench.raises(Closed, f"{name} after the device was closed") as caught:
            call()
        bench.check("closed" in str(caught[0]), f"{name} does not say that it was closed: {caught[0]}")
    bench.check(made.ring.closed, "a ring of a closed device says that it is open")
    bench.check(made.pool.closed, "a pool of a closed device says that it is open")
    bench.check(not made.point.done, "a point that never came says done after close")
    bench.same(kept.wait(0), np.zeros(BYTES, np.uint8), "a read that was complete before close")


@pytest.mark.clause("device.closed")
def test_close_is_idempotent_and_everything_under_it_still_closes(bench: Bench) -> None:
    device = bench.open()
    made = belongings(bench, device)
    with unremarked():
        device.close()
    closing: list[Callable[[], None]] = [
        device.close,
        made.slot.release,
        made.stream.close,
        made.ring.close,
        made.uploads.close,
        made.pool.close,
        made.buffer.close,
        made.other.close,
    ]
    for close in (*closing, *closing):
        try:
            close()
        except Exception as error:
            bench.check(False, f"closing again raised {type(error).__name__}: {error}")
    bench.check(device.closed, "a device that was closed twice says that it is open")


@pytest.mark.clause("device.closed")
def test_each_thing_says_that_it_was_closed(bench: Bench) -> None:
    device = bench.open()
    made = belongings(bench, device)
    made.slot.release()
    made.buffer.close()
    made.ring.close()
    made.uploads.close()
    made.pool.close()
    for name, call in made.calls(bench).items():
        if name.startswith("slice."):
            with bench.raises(StateError, f"{name} of a closed ring"):
                call()
        elif name.startswith(("ring.", "pool.", "stream.", "commands.", "device.submit")):
            with bench.raises(Closed, f"{name} with what was closed"):
                call()
    bench.wait(device.submit(device.command_list().fill(made.other, 1)), "work on what is still open")


@pytest.mark.clause("device.closed")
def test_a_closed_stream_takes_no_frame_and_its_pool_goes_on(bench: Bench) -> None:
    device = bench.open()
    made = belongings(bench, device)
    data = bench.payload(BYTES)
    bench.wait(made.uploads.upload(data, made.buffer))
    bench.check(made.stream.push(), "a stream of an idle pool gave its first frame up")
    made.stream.close()
    bench.check(made.stream.latest() is None, "a closed stream shows a frame")
    with bench.raises(Closed, "push to a closed stream"):
        made.stream.push()
    bench.same(made.pool.read(made.buffer).wait(bench.patience), data, "a read beside a closed stream")


@pytest.mark.clause("device.closed")
def test_what_only_tells_goes_on_telling(bench: Bench) -> None:
    device = bench.open()
    made = belongings(bench, device)
    data = bench.payload(BYTES)
    bench.wait(made.uploads.upload(data, made.buffer))
    bench.check(made.stream.push(), "a stream of an idle pool gave its first frame up")
    device.wait_idle(bench.patience)
    before = device.info, device.limits, device.budget.limit
    with unremarked():
        device.close()
    for name, figure in made.figures().items():
        try:
            figure()
        except Exception as error:
            bench.check(False, f"{name} after the device was closed raised {type(error).__name__}: {error}")
    after = device.info, device.limits, device.budget.limit
    bench.check(after == before, f"close changed what a device says of itself from {before} to {after}")
    frame = made.stream.latest()
    bench.check(frame is not None, "a frame that had landed before the device was closed is gone")
    bench.same(np.asarray(frame), data, "a frame that had landed before the device was closed")
    bench.check(made.stream.latest() is None, "a stream of a closed device shows a frame twice")


@pytest.mark.clause("device.closed")
def test_close_gives_back_all_memory(bench: Bench) -> None:
    device = bench.open()
    made = belongings(bench, device)
    point = made.uploads.upload(np.ones(BYTES, np.uint8), made.other)
    pending = made.pool.read(made.other, after=[point])
    held = device.budget.metrics()
    bench.check(held.total_bytes > 0, "memory that was made is not in the budget")
    with unremarked():
        device.close()
    left = device.budget.metrics()
    bench.check(
        (left.total_bytes, left.buffer_count, left.texture_count) == (0, 0, 0),
        f"close gave back all but {left.host_visible_bytes} host-visible and "
        f"{left.device_local_bytes} device-local bytes",
    )
    try:
        pending.wait(bench.patience)
    except StateError:  # Closed, or Cancelled with its pool
        pass


@pytest.mark.clause("device.closed")
def test_close_wakes_whoever_waits_for_memory(bench: Bench) -> None:
    device = bench.open(budget=4096)
    tracker = device.budget
    kept = tracker.reserve(4096)
    asked = threading.Event()

    def reclaim(_nbytes: int) -> int:
        asked.set()
        return 0

    tracker.add_reclaimer(reclaim)
    waiting = [bench.thread(lambda: tracker.reserve(1, timeout=None)) for _ in range(2)]
    bench.check(asked.wait(bench.patience), "no reclaimer was asked for memory that somebody waits for")
    with unremarked():
        device.close()
    for waiter in waiting:
        with bench.raises(Closed, "a wait for memory under way when the device was closed"):
            bench.result(waiter, "a wait for memory of a closed device")
    kept.release()
    left = tracker.metrics().total_bytes
    bench.check(left == 0, f"{left} bytes are reserved of a closed device")


@pytest.mark.clause("device.closed", requires=("hold",))
def test_close_gives_up_on_work_that_does_not_end(bench: Bench) -> None:
    device = bench.open(drain_timeout=0.05)
    buffer = device.create_buffer(BYTES)
    stream = device.readback_pool(max_pending_ops=1, buffer_size=4096).stream(buffer)
    with bench.hold(device, "compute", 2.0) as hold:
        point = device.submit(device.command_list().fill(buffer, 1))
        stream.push()
        waiter = bench.thread(point.wait, bench.patience)
        with unremarked():
            hold.promptly(device.close)
        with bench.raises(Closed, "a wait for work that close gave up on"):
            bench.result(waiter, "a wait for work that close gave up on")
        bench.check(stream.latest() is None, "a frame that close gave up on is shown")


@pytest.mark.clause("device.closed")
def test_close_while_threads_use_the_device(bench: Bench) -> None:
    device = bench.open()
    begun = threading.Barrier(4)

    def use() -> Exception | None:
        begun.wait(bench.patience)
        while True:
            try:
                with device.create_buffer(64) as buffer:
                    device.submit(device.command_list().fill(buffer, 1)).wait(bench.patience)
            except Exception as error:
                return error

    users = [bench.thread(use) for _ in range(3)]
    begun.wait(bench.patience)
    with unremarked():
        bench.result(bench.thread(device.close), "close while threads use the device")
    for user in users:
        error = bench.result(user, "a thread that used a device when it was closed")
        bench.check(isinstance(error, Closed), f"a thread at work when close came got {error!r}, not Closed")


@attrs.frozen
class Traces:
    """What a call that is refused must leave as it was."""

    submitted: tuple[int, ...]
    held: tuple[int, int]
    recorded: int
    staged: tuple[tuple[int, int, int], ...]
    reads: int


@pytest.mark.clause("device.foreign")
def test_what_another_device_made_is_refused(bench: Bench) -> None:
    mine, theirs = belongings(bench, bench.open()), belongings(bench, bench.open())
    device, increment = mine.device, mine.kernel
    foreign = theirs.device.submit(theirs.device.command_list().fill(theirs.buffer, 1))
    bench.wait(foreign)
    data = np.ones(16, np.uint8)
    calls: dict[str, Callable[[], object]] = {
        "fill of a foreign buffer": lambda: mine.empty.fill(theirs.buffer, 1),
        "copy from a foreign buffer": lambda: mine.empty.copy(theirs.buffer, mine.buffer),
        "copy to a foreign buffer": lambda: mine.empty.copy(mine.buffer, theirs.buffer),
        "dispatch of a foreign kernel": lambda: mine.empty.dispatch(
            theirs.kernel, [mine.buffer], [1, 1], threads=1
        ),
        "dispatch over a foreign buffer": lambda: mine.empty.dispatch(
            increment, [theirs.buffer], [1, 1], threads=1
        ),
        "submit of a foreign list": lambda: device.submit(theirs.recorded),
        "submit after a foreign point": lambda: device.submit(mine.recorded, after=[foreign]),
        "commit to a foreign buffer": lambda: mine.slot.commit(theirs.buffer),
        "upload to a foreign buffer": lambda: mine.uploads.upload(data, theirs.buffer),
        "read of a foreign buffer": lambda: mine.pool.read(theirs.buffer),
        "read after a foreign point": lambda: mine.pool.read(mine.buffer, after=[foreign]),
        "stream of a foreign buffer": lambda: mine.pool.stream(theirs.buffer).push(),
    }
    before = traces(mine)
    for name, call in calls.items():
        with bench.raises(ForeignObject, name):
            call()
        after = traces(mine)
        bench.check(after == before, f"{name} was refused and changed {before} to {after}")
    mine.slot.view[:] = 7
    mine.slot.commit(mine.buffer)
    mine.ring.advance(bench.patience)
    bench.wait(device.submit(mine.recorded), "the list that was refused after a foreign point")
    seen = mine.pool.read(mine.buffer).wait(bench.patience)
    bench.same(seen, np.ones(BYTES, np.uint8), "the device's own buffer after the refusals")
    seen = theirs.pool.read(theirs.buffer).wait(bench.patience)
    bench.same(seen, np.ones(BYTES, np.uint8), "the foreign buffer after the refusals")


@pytest.mark.clause("device.foreign", requires=("textures",))
def test_a_texture_of_another_device_is_refused(bench: Bench) -> None:
    mine, theirs = belongings(bench, bench.open()), bench.open()
    texture = theirs.create_texture(4, 1)
    pixels = np.ones((1, 4, 4), np.uint8)
    rows = mine.ring.allocate(pixels.nbytes)
    assert rows is not None
    before = traces(mine)
    with bench.raises(ForeignObject, "upload to a foreign texture"):
        mine.uploads.upload(pixels, texture)
    with bench.raises(ForeignObject, "commit_rows to a foreign texture"):
        rows.commit_rows(texture)
    with bench.raises(ForeignObject, "read of a foreign texture"):
        mine.pool.read(texture)
    after = traces(mine)
    bench.check(after == before, f"a refused texture changed {before} to {after}")
    rows.release()


def traces(mine: DeviceObjects) -> Traces:
    rings, pool = (mine.ring.stats(), mine.uploads.stats()), mine.pool.stats()
    held = mine.device.budget.metrics()
    return Traces(
        tuple(lane.timeline.submitted for lane in mine.device.lanes.values()),
        (held.host_visible_bytes, held.device_local_bytes),
        len(mine.empty),
        tuple((ring.bytes_staged, ring.submissions, ring.bytes_in_flight) for ring in rings),
        pool.pending_operations,
    )


@pytest.mark.clause("device.foreign")
def test_what_no_device_made_is_refused(bench: Bench) -> None:
    mine = belongings(bench, bench.open())
    stranger: object = object()
    calls: dict[str, Callable[[], object]] = {
        "fill": lambda: mine.empty.fill(stranger, 1),  # type: ignore[arg-type]
        "submit": lambda: mine.device.submit(stranger),  # type: ignore[arg-type]
        "adopt": lambda: mine.device.adopt(stranger),
        "commit": lambda: mine.slot.commit(stranger),  # type: ignore[arg-type]
        "upload": lambda: mine.uploads.upload(np.ones(4, np.uint8), stranger),  # type: ignore[arg-type]
        "read": lambda: mine.pool.read(stranger),  # type: ignore[arg-type]
    }
    for name, call in calls.items():
        with bench.raises(UsageError, f"{name} of an object that no device made") as caught:
            call()
        bench.check(not isinstance(caught[0], TooLarge), f"{name} of a stranger says that it is too large")
