"""Devices that are closed while they work: their memory stays until the work has ended, and no longer."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from forge3d_core import leftover, open_device
from forge3d_core.device import assemble
from forge3d_core.errors import UsageError
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.leftover import clear_up, end
from forge3d_core.protocols import DeviceOptions

from ..interrupts import interrupters


class Busy(HostDriver):
    """A driver whose device works until the test says otherwise."""

    def __init__(self) -> None:
        super().__init__(HostMachine())
        self.busy = True
        self.asked: list[float] = []
        self.then: Callable[[], object] = lambda: None

    def close(self, timeout: float) -> bool:
        self.asked.append(timeout)
        self.then()
        if not self.busy:
            super().close(timeout)
        return not self.busy


@pytest.fixture
def driver() -> Iterator[Busy]:
    driver = Busy()
    yield driver
    driver.busy, driver.then = False, lambda: None
    clear_up()
    assert leftover._left == []


def close_busy(driver: Busy, **options: Any) -> list[weakref.ref[Any]]:
    """Close a device of ``driver`` while it works; return what the work uses."""
    device = assemble(driver, DeviceOptions(drain_timeout=0.0, **options))
    own = np.zeros(64, np.uint8)
    made = device.create_buffer(64), device.adopt(own)
    device.submit(device.command_list().copy(*made))
    used = [weakref.ref(one.native) for one in made]
    device.close()
    return used


def alive(used: list[weakref.ref[Any]]) -> list[bool]:
    gc.collect()
    return [one() is not None for one in used]


def open_and_close() -> None:
    open_device("host").close()


@pytest.mark.parametrize("look", [clear_up, open_and_close])
def test_memory_stays_until_the_work_has_ended_and_no_longer(
    driver: Busy, look: Callable[[], object]
) -> None:
    used = close_busy(driver)
    look()
    assert alive(used) == [True, True]
    driver.busy = False
    look()
    assert alive(used) == [False, False]
    times = len(driver.asked)
    look()
    assert len(driver.asked) == times
    assert set(driver.asked) == {0.0}


def test_whoever_opens_looks_before_and_whoever_closes_looks_after(driver: Busy) -> None:
    close_busy(driver)
    times = len(driver.asked)
    with open_device("host"):
        assert len(driver.asked) == times + 1
    assert len(driver.asked) == times + 2


def test_close_waits_for_as_long_as_it_should(driver: Busy) -> None:
    driver.busy = False
    assemble(driver, DeviceOptions(drain_timeout=1.5)).close()
    assert driver.asked == [1.5]


def test_an_interrupted_close_is_made_up_for(driver: Busy) -> None:
    def interrupt() -> None:
        driver.then = lambda: None
        raise KeyboardInterrupt

    driver.then = interrupt
    device = assemble(driver)
    buffer = device.create_buffer(64)
    native = weakref.ref(buffer.native)
    with pytest.raises(KeyboardInterrupt):
        device.close()
    del buffer
    assert alive([native]) == [True]
    driver.busy = False
    clear_up()
    assert alive([native]) == [False]


def test_an_assembly_that_fails_leaves_a_busy_driver_too(driver: Busy) -> None:
    driver.info = type(driver.info)("host", "limitless", "cpu", "0")
    with pytest.raises(UsageError, match="without limits"):
        assemble(driver)
    driver.busy = False
    clear_up()
    assert len(driver.asked) > 1


def test_a_driver_that_fails_at_its_close_is_not_asked_again(driver: Busy) -> None:
    def fail() -> None:
        raise ArithmeticError("a mistake")

    driver.then = fail
    with pytest.raises(ArithmeticError):
        end(driver, 1.0)
    clear_up()
    assert driver.asked == [1.0]


def test_one_that_fails_later_is_nobody_elses_trouble(driver: Busy, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ArithmeticError("a mistake")

    end(driver, 0.0)
    driver.then = fail
    with caplog.at_level(logging.ERROR):
        open_and_close()
    assert "a mistake" in caplog.text
    times = len(driver.asked)
    clear_up()
    assert len(driver.asked) == times


def test_nobody_asks_while_it_is_closing(
    driver: Busy, background: Callable[..., Any], patience: float
) -> None:
    entered, leave = threading.Event(), threading.Event()
    driver.then = lambda: (entered.set(), leave.wait(patience))
    closing = background(end, driver, 1.0)
    assert entered.wait(patience)
    clear_up()
    assert driver.asked == [1.0]
    leave.set()
    closing.result(patience)


def test_two_that_look_ask_one_after_the_other(
    driver: Busy, background: Callable[..., Any], patience: float
) -> None:
    end(driver, 0.0)
    times = len(driver.asked)
    entered, leave = threading.Event(), threading.Event()
    driver.then = lambda: (entered.set(), leave.wait(patience))
    looking = background(clear_up)
    assert entered.wait(patience)
    clear_up()
    assert len(driver.asked) == times + 1
    leave.set()
    looking.result(patience)


def test_a_forked_child_leaves_them_to_its_parent(driver: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    end(driver, 0.0)
    times, parent = len(driver.asked), os.getpid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: parent + 1)
        driver.busy = False
        clear_up()
    assert len(driver.asked) == times


@pytest.mark.parametrize("busy", [False, True])
def test_an_interrupt_loses_no_driver(busy: bool) -> None:
    """Wherever it comes, once the driver is noted: it is closed, now or when somebody looks."""
    closed = []
    for interrupter in interrupters(leftover):
        driver = Busy()
        driver.busy = busy
        interrupter.run(lambda driver=driver: end(driver, 1.0))
        driver.busy = False
        clear_up()
        assert leftover._left == []
        closed.append(bool(driver.asked))
    assert closed == sorted(closed)
    assert sum(closed) > 3


AT_EXIT = """
import os
from forge3d_core.leftover import end

class Native:
    def __del__(self, write=os.write):
        write(2, b"the device is waited for")

class Driver:
    def close(self, timeout):
        return False

end(Driver(), 0.0, [Native()])
"""


def test_an_interpreter_that_exits_lets_them_be() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
