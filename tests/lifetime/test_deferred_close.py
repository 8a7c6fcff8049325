"""Devices that are closed while they work: their memory stays until the work has ended, and no longer."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core import open_device
from forge3d_core.device import device
from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.errors import DriverError, OutOfDeviceMemory, UsageError
from forge3d_core.lifetime import deferred_close as leftover
from forge3d_core.lifetime import teardown as closing
from forge3d_core.lifetime.deferred_close import MAX_FAILURES, DeferredClose, close_deferred
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.protocols import DeviceOptions, KernelSource

from ..interrupts import interrupters
from .busy import Busy, alive, close_busy, raising


def open_and_close() -> None:
    open_device("host").close()


@pytest.mark.parametrize("look", [close_deferred, open_and_close])
def test_memory_stays_until_the_work_has_ended_and_no_longer(
    driver: Busy, look: Callable[[], object]
) -> None:
    used = close_busy(driver)
    look()
    assert alive(used) == [True] * 3
    driver.busy = False
    look()
    assert alive(used) == [False] * 3
    times = len(driver.asked)
    look()
    assert len(driver.asked) == times
    assert set(driver.asked) == {0.0}
    assert driver.closed == 1


def test_a_closed_device_that_somebody_keeps_keeps_no_memory(driver: Busy) -> None:
    driver.busy = False
    kept = assemble(driver)
    native = weakref.ref(kept.create_buffer(64).native)
    kept.close()
    assert alive([native]) == [False]


def test_whoever_opens_looks_before_and_so_does_whoever_closes(driver: Busy) -> None:
    driver.left()
    with open_device("host"):
        opening = len(driver.asked)
        assert opening
    assert len(driver.asked) > opening


def test_who_runs_out_of_memory_looks_and_tries_again(driver: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_device("host") as other:
        driver.left()
        other.native.fail_allocation()
        with pytest.raises(OutOfDeviceMemory):
            other.create_buffer(64)
        other.native.fail_allocation()
        driver.busy = False
        assert other.create_buffer(64).nbytes == 64
    assert driver.closed == 1


def test_close_waits_for_as_long_as_it_should(driver: Busy) -> None:
    driver.busy = False
    assemble(driver, DeviceOptions(drain_timeout=1.5)).close()
    assert driver.asked == [1.5]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TimeoutError("a watchdog's")])
def test_a_close_that_something_cut_short_is_made_up_for(driver: Busy, error: BaseException) -> None:
    raising(driver, error)
    made = assemble(driver)
    native = weakref.ref(made.create_buffer(64).native)
    with pytest.raises((type(error), DriverError)):
        made.close()
    del made
    error.__traceback__ = None
    assert alive([native]) == [True]
    driver.busy = False
    close_deferred()
    assert alive([native]) == [False]


def test_a_driver_that_cannot_be_closed_keeps_its_memory_and_is_nobody_elses_trouble(
    driver: Busy, caplog: pytest.LogCaptureFixture
) -> None:
    raising(driver, ArithmeticError("a mistake"), times=9)
    left = DeferredClose("the device", driver.close, [memory := np.zeros(1)])
    kept = weakref.ref(memory)
    del memory
    with pytest.raises(ArithmeticError):
        left.end(1.0)
    driver.busy = False
    with caplog.at_level(logging.ERROR):
        open_and_close()
    assert "closing the device failed" in caplog.text
    assert "a mistake" in caplog.text
    for _ in range(9):
        close_deferred()
    assert driver.asked == [1.0, *[0.0] * MAX_FAILURES]
    assert alive([kept]) == [True]


def test_an_assembly_that_fails_leaves_a_busy_driver_too(driver: Busy) -> None:
    driver.info = type(driver.info)("host", "limitless", "cpu", "0")
    with pytest.raises(UsageError, match="without limits"):
        assemble(driver)
    driver.busy = False
    close_deferred()
    assert driver.closed == 1


@pytest.mark.parametrize("call", ["compile", "submit"])
def test_a_driver_that_somebody_is_in_is_closed_when_it_is_out(
    driver: Busy,
    background: Callable[..., Any],
    patience: float,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    driver.busy = False
    entered, leave, native_call = threading.Event(), threading.Event(), getattr(driver, call)

    def stuck(*arguments: Any) -> Any:
        entered.set()
        assert leave.wait(patience)
        return native_call(*arguments)

    monkeypatch.setattr(driver, call, stuck)
    shut = CallGuard.shut
    monkeypatch.setattr(CallGuard, "shut", lambda gate, timeout=0.0: shut(gate, timeout))
    made = assemble(driver)
    native = weakref.ref(made.create_buffer(64).native)
    late = KernelSource("late", {"host": print})
    calls = {
        "compile": lambda: made.create_kernel(late),
        "submit": lambda: made.submit(made.command_list()),
    }
    inside = background(calls[call])
    assert entered.wait(patience)
    with pytest.warns(ResourceWarning, match="stays open until it has"):
        made.close()
    close_deferred()
    assert not driver.asked
    assert alive([native]) == [True]
    leave.set()
    inside.exception(patience)
    close_deferred()
    assert driver.closed == 1
    assert alive([native]) == [False]


def test_nobody_asks_while_its_device_closes_it_or_after(
    drivers: Callable[[], Busy], background: Callable[..., Any], patience: float
) -> None:
    """One who looks has seen the driver among the others, and comes to it when it has just closed."""
    first, second = drivers(), drivers()
    first.left()
    at_first, in_second, leave = threading.Event(), threading.Event(), threading.Event()
    second.busy = False
    second.then = lambda: (in_second.set(), leave.wait(patience))
    ending = background(DeferredClose("second", second.close).end, 1.0)
    assert in_second.wait(patience)
    close_deferred()
    assert second.asked == [1.0]
    first.then = lambda: (at_first.set(), ending.result(patience))
    looking = background(close_deferred)
    assert at_first.wait(patience)
    leave.set()
    looking.result(patience)
    assert second.asked == [1.0]
    assert second.closed == 1


def test_two_that_look_do_not_wait_for_each_other(
    driver: Busy, background: Callable[..., Any], patience: float
) -> None:
    driver.left()
    entered, leave = threading.Event(), threading.Event()
    driver.then = lambda: (entered.set(), leave.wait(patience))
    looking = background(close_deferred)
    assert entered.wait(patience)
    close_deferred()
    assert driver.asked == [0.0]
    leave.set()
    looking.result(patience)


def test_a_forked_child_leaves_them_to_its_parent(driver: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.left()
    parent = os.getpid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: parent + 1)
        driver.busy = False
        close_deferred()
    assert not driver.asked


@pytest.mark.filterwarnings("ignore:device .*:ResourceWarning")
@pytest.mark.parametrize("busy", [False, True])
def test_no_interrupt_of_a_close_gives_back_what_may_be_used(
    busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes, and though nobody has the device any more; in the end all goes back."""
    for interrupter in interrupters(closing, device, leftover):
        driver = Busy()
        driver.busy = busy
        made = assemble(driver, DeviceOptions(drain_timeout=0.0))
        used = in_flight(made)
        interrupter.run(made.close)
        with monkeypatch.context() as patch:  # what another thread does when a device is dropped
            patch.setattr(device, "close_elsewhere", lambda close, _name: (close(), True)[1])
            del made
            kept = alive(used)
        assert not driver.busy or all(kept), interrupter
        driver.busy = False
        close_deferred()
        assert not any(alive(used)), interrupter
        assert leftover._left == []


def in_flight(made: AssembledDevice) -> list[weakref.ref[Any]]:
    """Submit work that uses buffers, one of them adopted, and a kernel, and drop them."""
    buffer, adopted = made.create_buffer(64), made.adopt(np.zeros(64, np.uint8))
    kernel = made.create_kernel(KernelSource("k", {"host": print}))
    made.submit(made.command_list().copy(buffer, adopted).dispatch(kernel, [], threads=1))
    return [weakref.ref(used.native) for used in (buffer, adopted, kernel)]


def test_a_busy_device_that_is_dropped_where_no_thread_can_start_is_left(
    driver: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    used = in_flight(assemble(driver))
    with monkeypatch.context() as patch:
        patch.setattr("_thread.start_new_thread", refuse)
        with pytest.warns(ResourceWarning, match="never closed"):
            gc.collect()
    assert alive(used) == [True] * 3
    driver.busy = False
    close_deferred()
    assert alive(used) == [False] * 3


AT_EXIT = """
import os
from forge3d_core.lifetime.deferred_close import DeferredClose

class Native:
    def __del__(self, write=os.write):
        write(2, b"the device is waited for")

DeferredClose("busy", lambda timeout: False, [Native()]).end(0.0)
"""


OPEN_AT_EXIT = """
import os
import forge3d_core

class Native:
    def __call__(self, threads):
        pass

    def __del__(self, write=os.write):
        write(2, b"the device is waited for")

device = forge3d_core.open_device("host")
device.create_kernel(forge3d_core.KernelSource("k", {"host": Native()}))
"""


@pytest.mark.parametrize("script", [AT_EXIT, OPEN_AT_EXIT], ids=["left", "open"])
def test_an_interpreter_that_exits_lets_them_be(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
