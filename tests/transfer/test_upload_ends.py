"""Large uploads that end early, or that something holds up: the device stays whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import BudgetError, Closed, DeviceLost, FenceTimeout, UsageError
from forge3d_core.transfer import workers
from forge3d_core.transfer.source import Run

from .conftest import CHUNK, bytes_of, peek, usable


def during_copies(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Have ``act`` called in the middle of every copy to a chunk."""
    fill = Run.fill
    monkeypatch.setattr(Run, "fill", lambda part, memory: (act(), fill(part, memory))[1])


def test_a_timeout_leaves_everything_usable(bulk: AssembledDevice) -> None:
    buffer = bulk.create_buffer(64 * CHUNK)
    with (
        bulk.staging_ring(buffer_size=4096) as ring,
        bulk.native.hold("upload"),
        pytest.raises(FenceTimeout, match="upload"),
    ):
        ring.upload(bytes_of(64 * CHUNK), buffer, timeout=0.01)
    usable(bulk)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("nth", [1, 2, 9])
def test_a_copy_that_fails_leaves_everything_usable(
    bulk: AssembledDevice, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], nth: int
) -> None:
    copies = iter(range(1, 1000))

    def act() -> None:
        if next(copies) == nth:
            raise error

    with monkeypatch.context() as patch:
        during_copies(patch, act)
        with bulk.staging_ring(buffer_size=4096) as ring, pytest.raises(error) as kept:
            ring.upload(bytes_of(20 * CHUNK), bulk.create_buffer(20 * CHUNK))
    usable(bulk)
    assert kept.tb is not None  # which has the frames, and they the chunks


@pytest.mark.parametrize("nth", [1, 2, 5])
def test_a_submission_that_is_interrupted(
    bulk: AssembledDevice, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    submit, calls = bulk.submit_commands, iter(range(1, 1000))

    def interrupted(*arguments: Any) -> Any:
        point = submit(*arguments)
        if next(calls) == nth:
            raise KeyboardInterrupt
        return point

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "submit_commands", interrupted)
        with bulk.staging_ring(buffer_size=4096) as ring, pytest.raises(KeyboardInterrupt):
            ring.upload(bytes_of(30 * CHUNK), bulk.create_buffer(30 * CHUNK))
    usable(bulk)


def test_a_target_that_is_closed_meanwhile_stays(
    bulk: AssembledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = bulk.create_buffer(20 * CHUNK)
    during_copies(monkeypatch, buffer.close)
    with bulk.staging_ring(buffer_size=4096) as ring:
        ring.upload(bytes_of(20 * CHUNK), buffer).wait(20)
    bulk.wait_idle(20)
    assert bulk.budget.metrics().device_local_bytes == 0


@pytest.mark.parametrize(("end", "error"), [("close", Closed), ("lose", DeviceLost), ("ring", Closed)])
def test_an_end_in_the_middle(
    bulk: AssembledDevice, background: Callable[..., Any], patience: float, end: str, error: type[Exception]
) -> None:
    ring, buffer = bulk.staging_ring(buffer_size=4096), bulk.create_buffer(64 * CHUNK)
    hold = bulk.native.hold("upload")
    uploading = background(ring.upload, bytes_of(64 * CHUNK), buffer)
    while not bulk.lanes["upload"].timeline.submitted:
        pass
    {"close": bulk.close, "lose": lambda: bulk.native.lose("on purpose"), "ring": ring.abandon}[end]()
    with pytest.raises(error):
        uploading.result(patience)
    if end == "ring":
        hold.release()
        usable(bulk)


def test_a_lane_that_stands_still_holds_up_no_other(
    bulk: AssembledDevice, background: Callable[..., Any]
) -> None:
    data = bytes_of(64 * CHUNK)
    still, free = bulk.create_buffer(data.nbytes), bulk.create_buffer(data.nbytes)
    rings = bulk.staging_ring(buffer_size=4096), bulk.staging_ring(buffer_size=4096, lane="compute")
    with bulk.native.hold("upload"):
        uploading = background(rings[0].upload, data, still)
        while not bulk.lanes["upload"].timeline.submitted:
            pass
        rings[1].upload(data, free, timeout=20).wait(20)
    uploading.result(20).wait(20)
    assert (peek(bulk, still) == data).all()
    assert (peek(bulk, free) == data).all()


def test_where_no_thread_starts(open_bulk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    device = open_bulk()
    ring, buffer, data = device.staging_ring(), device.create_buffer(9 * CHUNK), bytes_of(9 * CHUNK)
    ring.upload(data[:1], buffer).wait(20)  # starts the lane's own

    def none(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(workers, "start_thread", none)
    ring.upload(data, buffer)
    assert (peek(device, buffer) == data).all()


def test_nothing_is_staged_of_what_is_refused(bulk: AssembledDevice) -> None:
    ring, buffer = bulk.staging_ring(), bulk.create_buffer(64)
    with pytest.raises(UsageError):
        ring.upload(np.zeros(65, np.uint8), buffer)
    assert bulk.lanes["upload"].timeline.submitted == 0
    with pytest.raises(BudgetError):
        bulk.budget.reserve(1 << 40)
