"""Order, gates, failures and ends of the lanes."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.driver import Dispatch, Download, Fill, Upload
from forge3d_core.errors import Closed, DeviceLost, ForgeError, KernelError, OutOfDeviceMemory, UsageError
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.latch import Latch
from forge3d_core.host.machine import HostMachine
from forge3d_core.host.options import HostOptions
from forge3d_core.protocols import Binding

from ..interrupts import while_handling

PATIENCE = 20.0


class Interrupt(BaseException):
    """What a signal's handler may raise anywhere."""


_earlier: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _note_earlier_threads() -> None:
    """Tell the lanes of this test from those that other tests in this process left to end by themselves."""
    _earlier.clear()
    _earlier.update(threading.enumerate())


def threads_of_lanes() -> set[str]:
    threads = set(threading.enumerate()) - _earlier
    return {thread.name for thread in threads if thread.name.startswith("forge3d-host-")}


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


def test_close_lets_queued_work_end_even_behind_a_gate(rig: Any) -> None:
    ran: list[int] = []
    rig.driver.hold("compute")
    tokens = [rig.call("compute", lambda i=i: ran.append(i)) for i in range(5)]
    rig.driver.close(PATIENCE)
    assert ran == [0, 1, 2, 3, 4]
    assert all(rig.driver.query(token) for token in tokens)
    assert threads_of_lanes() == set()
    with pytest.raises(Closed):
        rig.call("compute", lambda: None)


def test_close_gives_up_after_its_timeout(rig: Any) -> None:
    gate = threading.Event()
    stuck = rig.call("compute", lambda: gate.wait(PATIENCE))
    queued = rig.call("compute", lambda: None)
    rig.driver.close(0.01)
    for token in (stuck, queued):
        with pytest.raises(Closed, match=r"had not run after 0\.01 s"):
            rig.driver.query(token)
    gate.set()


def test_a_thousand_machines_leave_nothing() -> None:
    block = np.zeros(1, np.uint8)
    for _ in range(1000):
        driver = HostDriver(HostMachine())
        adopted, nbytes = driver.adopt(block)
        memory = type("Memory", (), {"native": adopted, "nbytes": nbytes})()
        driver.submit("compute", [Fill(memory, 0, 1, 1)], ())
        driver.close(PATIENCE)
    machine = weakref.ref(driver.machine)
    del driver
    gc.collect()
    assert machine() is None
    assert threads_of_lanes() == set()


def test_a_machine_that_never_worked_has_no_threads() -> None:
    machine = HostMachine()
    assert threads_of_lanes() == set()
    machine.close()


def test_an_idle_lane_keeps_no_memory(rig: Any) -> None:
    def use(_threads: object, array: Any) -> None:
        kept.append(weakref.ref(array))

    kept: list[weakref.ref[Any]] = []
    memory = rig.buffer(8)
    native = weakref.ref(memory.native)
    token = rig.driver.submit(
        "compute", [Dispatch(rig.kernel(use, (Binding("a"),)), (memory,), (), (1, 1, 1))], ()
    )
    rig.finish(token)
    del memory
    gc.collect()
    assert len(kept) == 1
    assert kept[0]() is None
    assert native() is None
    assert token.commands == ()


def test_an_adopted_machine_outlives_its_device() -> None:
    machine = HostMachine(HostOptions())
    first, second = HostDriver(machine, owned=False), HostDriver(machine, owned=False)
    block = second.allocate_block(4, "upload")
    target = type("Memory", (), {"native": second.allocate_buffer(4), "nbytes": 4})()
    home = second.allocate_block(4, "readback")
    block.view()[:] = [1, 2, 3, 4]
    first.submit("upload", [Upload(block, 0, target, 0, 4)], ())
    first.close(PATIENCE)
    token = second.submit("download", [Download(target, 0, home, 0, 4)], ())
    assert second.wait(token, PATIENCE)
    assert home.view().tolist() == [1, 2, 3, 4]
    machine.close()
    with pytest.raises(Closed):
        second.submit("compute", [], ())


def test_an_adopted_machine_that_fails_does_not_fail_the_close() -> None:
    machine = HostMachine()
    driver = HostDriver(machine, owned=False)
    driver.submit("compute", [], ())
    machine.lose("test")
    driver.close(PATIENCE)
    machine.close()


@pytest.mark.parametrize("held", [True, False])
def test_the_interpreter_exits_with_work_in_flight(held: bool) -> None:
    program = """
import sys, threading
from forge3d_core.driver import Dispatch
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.protocols import KernelSource
driver = HostDriver(HostMachine())
source = KernelSource("forever", {"host": lambda threads: threading.Event().wait()})
if sys.argv[1] == "True":
    driver.hold("compute")
kernel = type("Kernel", (), {"source": source, "native": driver.compile(source)[1]})()
driver.submit("compute", [Dispatch(kernel, (), (), (1, 1, 1))], ())
print("bye")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(held)], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("bye\n", "")


def test_a_lane_whose_thread_cannot_start_refuses_and_serves_later(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ForgeError, match="lane 'compute' needs a thread and none can start"):
            rig.call("compute", lambda: ran.append("refused"))
        with pytest.raises(ForgeError, match="lane 'compute' needs a thread and none can start"):
            while_handling(lambda: rig.call("compute", lambda: ran.append("refused")))
    rig.finish(rig.call("compute", lambda: ran.append("served")))
    assert ran == ["served"]


def test_a_machine_whose_threads_cannot_start_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = HostMachine()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ForgeError):
        machine.submit("compute", [], ())
    machine.close(PATIENCE)


@pytest.mark.parametrize("disguised", [False, True])
def test_a_thread_whose_start_was_interrupted_serves_nobody(
    rig: Any, monkeypatch: pytest.MonkeyPatch, disguised: bool
) -> None:
    """It runs, and nobody knows; the lane gets another, and must not have two."""
    start, started, ran = threading.Thread.start, [], []

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        started.append(thread)
        try:
            raise Interrupt
        finally:
            if disguised:  # as an interrupt within threading.Condition may be
                raise RuntimeError("release unlocked lock")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(Interrupt):
            rig.call("compute", lambda: ran.append("interrupted"))
    started[0].join(PATIENCE)
    assert not started[0].is_alive()
    rig.finish(rig.call("compute", lambda: ran.append("served")))
    assert ran == ["served"]


@pytest.mark.parametrize("selector", ["", "?seed=7"])
def test_a_submission_that_was_interrupted_does_nothing(
    make: Callable[[str], Any], selector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, ran = make(selector), list[str]()

    def interrupt(*_: object) -> None:
        raise Interrupt

    with monkeypatch.context() as patched:
        late = "_announce" if selector else "_entered"
        patched.setattr(type(rig.driver.machine._lanes), late, interrupt)
        with pytest.raises(Interrupt):
            rig.call("compute", lambda: ran.append("interrupted"))
    rig.finish(rig.call("compute", lambda: ran.append("served")))
    assert ran == ["served"]


def test_an_interrupted_wait_leaves_nothing_wanted(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_latch: Latch, _seconds: float) -> bool:
        raise Interrupt

    with rig.driver.hold("compute"):
        token = rig.call("compute", lambda: None)
        with monkeypatch.context() as patched:
            patched.setattr(Latch, "wait", interrupt)
            with pytest.raises(Interrupt):
                rig.driver.wait(token, PATIENCE)
    schedule = getattr(rig.driver.machine._lanes, "schedule", None)
    assert not getattr(schedule, "_wanted", [])
    rig.finish(token)
