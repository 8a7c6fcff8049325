"""Order, gates and failures of the lanes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.errors import DeviceLost, KernelError, OutOfDeviceMemory, UsageError

from .conftest import PATIENCE, threads_of_lanes


def test_a_lane_runs_in_order_of_submission(rig: Any) -> None:
    order: list[int] = []
    tokens = [rig.call("compute", lambda i=i: order.append(i)) for i in range(50)]
    rig.finish(tokens[-1])
    assert order == list(range(50))
    assert all(rig.driver.query(token) for token in tokens[:-1]) or rig.driver.machine.options.chaos


def test_lanes_run_at_the_same_time(make: Callable[[str], Any]) -> None:
    rig = make("")
    meeting = threading.Barrier(3, timeout=PATIENCE)  # passes only when three lanes are in it at once
    rig.finish(*[rig.call(lane, meeting.wait) for lane in ("upload", "compute", "download")])


def test_after_orders_lanes(rig: Any) -> None:
    order: list[str] = []
    with rig.driver.hold("upload"):
        up = rig.call("upload", lambda: order.append("up"))
        middle = rig.call("compute", lambda: order.append("middle"), (up,))
        down = rig.call("download", lambda: order.append("down"), (up, middle))
        assert not rig.driver.query(down)
        assert order == []
    rig.finish(down)
    assert order == ["up", "middle", "down"]


def test_after_may_name_complete_and_retired_tokens(rig: Any) -> None:
    first = rig.call("upload", lambda: None)
    rig.finish(first)
    rig.driver.retire(first)
    rig.finish(rig.call("compute", lambda: None, (first, first)))
    assert rig.driver.query(first)


def test_a_held_lane_starts_nothing_and_holds_nobody_else(rig: Any) -> None:
    hold = rig.driver.hold("upload")
    _, upload, target = rig.upload(np.full(8, 5, np.uint8))
    held = rig.driver.submit("upload", [upload], ())
    assert not rig.driver.query(held)
    assert not rig.driver.wait(held, 0.01)
    assert not rig.peek(target).any()  # another lane works, and shows that nothing was written
    hold.release()
    hold.release()
    rig.finish(held)
    assert rig.peek(target).tolist() == [5] * 8


def test_every_hold_must_be_released(rig: Any) -> None:
    first, second = rig.driver.hold("compute"), rig.driver.hold("compute")
    token = rig.call("compute", lambda: None)
    first.release()
    assert not rig.driver.wait(token, 0.01)
    second.release()
    rig.finish(token)


def test_a_release_elsewhere_wakes_who_waits(rig: Any) -> None:
    hold = rig.driver.hold("compute")
    token = rig.call("compute", lambda: None)
    answers: list[bool] = []
    waiters = [
        threading.Thread(target=lambda: answers.append(rig.driver.wait(token, PATIENCE))) for _ in range(4)
    ]
    for waiter in waiters:
        waiter.start()
    hold.release()
    for waiter in waiters:
        waiter.join(PATIENCE)
    assert answers == [True] * 4


def test_hold_names_the_lanes(rig: Any) -> None:
    with pytest.raises(UsageError, match="no lane 'copy'; there are upload, compute, download"):
        rig.driver.hold("copy")


def test_a_failure_sticks_to_its_lane_and_reaches_dependents(rig: Any) -> None:
    ran: list[str] = []
    good = rig.call("compute", lambda: ran.append("good"))
    bad = rig.call("compute", lambda: 1 // 0)
    later = rig.call("compute", lambda: ran.append("later"))
    dependent = rig.call("download", lambda: ran.append("dependent"), (bad,))
    behind = rig.call("download", lambda: ran.append("behind"))
    elsewhere = rig.call("upload", lambda: ran.append("elsewhere"))
    rig.finish(good, elsewhere)
    for token in (bad, later, dependent, behind, bad):
        with pytest.raises(KernelError, match="ZeroDivisionError"):
            rig.finish(token)
    with pytest.raises(KernelError):
        rig.finish(rig.call("compute", lambda: ran.append("new")))
    with pytest.raises(KernelError):
        rig.driver.query(bad)
    assert sorted(ran) == ["elsewhere", "good"]


def test_loss_fails_what_is_there_and_what_comes(rig: Any) -> None:
    rig.driver.hold("compute")
    queued = rig.call("compute", lambda: None)
    heard: list[str] = []

    def listen() -> None:
        try:
            rig.driver.wait(queued, PATIENCE)
        except DeviceLost as error:
            heard.append(str(error))

    waiter = threading.Thread(target=listen)
    waiter.start()
    rig.driver.lose("pulled out")
    waiter.join(PATIENCE)
    assert heard == ["the host device was lost (pulled out); open a new one"]
    uses: list[Callable[[], object]] = [
        lambda: rig.driver.query(queued),
        lambda: rig.driver.wait(queued, PATIENCE),
        lambda: rig.call("upload", lambda: None),
        lambda: rig.driver.allocate_buffer(4),
    ]
    for use in uses:
        with pytest.raises(DeviceLost, match="pulled out"):
            use()
    rig.driver.close(PATIENCE)


def test_loss_ends_a_transfer_on_the_link(make: Callable[[str], Any]) -> None:
    rig = make("?latency=1000s")
    _, upload, _ = rig.upload(np.ones(4, np.uint8))
    token = rig.driver.submit("upload", [upload], ())
    assert not rig.driver.wait(token, 0.01)
    rig.driver.lose("test")
    with pytest.raises(DeviceLost):
        rig.driver.wait(token, PATIENCE)
    for thread in threading.enumerate():
        if thread.name == "forge3d-host-upload":
            thread.join(PATIENCE)
    assert threads_of_lanes() == set()  # before close: the transfer itself has ended


def test_a_slow_link_holds_up_its_own_lane_only(make: Callable[[str], Any]) -> None:
    rig = make("?link=1B/s")
    _, upload, _ = rig.upload(np.ones(10_000, np.uint8))
    slow = rig.driver.submit("upload", [upload], ())
    rig.finish(rig.call("compute", lambda: None))
    assert not rig.driver.query(slow)
    rig.driver.lose("enough")


def test_refused_allocations(rig: Any) -> None:
    rig.driver.fail_allocation(2)
    rig.driver.allocate_buffer(8)
    with pytest.raises(OutOfDeviceMemory, match="allocation 2, of 1 KiB, was refused"):
        rig.driver.allocate_block(1024, "upload")
    rig.driver.allocate_block(1024, "upload")
    with pytest.raises(UsageError, match="from 1 up, not 0"):
        rig.driver.fail_allocation(0)


def test_memory_that_the_process_cannot_have(rig: Any) -> None:
    with pytest.raises(OutOfDeviceMemory, match="more than this process can have"):
        rig.driver.allocate_buffer(1 << 60)
