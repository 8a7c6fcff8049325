"""The end of lanes, of the machine that they are of, and of the interpreter."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from forge3d_core.driver import Dispatch, Download, Fill, Upload
from forge3d_core.errors import Closed
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.host.options import HostOptions
from forge3d_core.protocols import Binding

from .conftest import PATIENCE, threads_of_lanes


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
