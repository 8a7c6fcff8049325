"""A device that nobody closed: the collector finds it, and another thread closes it."""

from __future__ import annotations

import _thread
import gc
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine

from .script import OPEN, run_script


@attrs.define(eq=False)
class Watched(HostDriver):
    """Notes when it closes; ``lock`` is what closing asks for, ``part`` a native object."""

    lock: Any = attrs.field(factory=threading.Lock)
    part: Any = None
    closing: Callable[[], object] = lambda: None
    closed: threading.Event = attrs.field(factory=threading.Event)

    def close(self, timeout: float) -> None:
        self.closing()
        assert self.lock.acquire(timeout=20)
        super().close(timeout)
        self.lock.release()
        self.closed.set()


def used(driver: HostDriver) -> weakref.ref[AssembledDevice]:
    """Submit to a device, drop it, and return a reference that does not keep it."""
    device = assemble(driver)
    device.submit(device.command_list().fill(device.create_buffer(64), 1)).wait(20)
    return weakref.ref(device)


def exhausted(driver: HostDriver) -> weakref.ref[AssembledDevice]:
    """The same with all that a device makes."""
    device = assemble(driver)
    buffer, ring, pool = device.create_buffer(64), device.staging_ring(), device.readback_pool()
    ring.upload(b"x" * 64, buffer)
    device.submit(device.command_list().fill(buffer, 1))
    pool.read(buffer).wait(20)
    return weakref.ref(device)


def test_it_warns_and_its_threads_end(patience: float) -> None:
    before = set(threading.enumerate())
    device = assemble(HostDriver(HostMachine()))
    name = device.info.name
    device.submit(device.command_list()).wait(patience)
    lanes = set(threading.enumerate()) - before
    assert lanes
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del device
        gc.collect()
    assert [str(one.message) for one in caught] == [f"device {name!r} was never closed"]
    del caught  # its source is the device
    for thread in lanes:
        thread.join(patience)
        assert not thread.is_alive()


@pytest.mark.parametrize("use", [used, exhausted])
def test_one_that_was_used_is_collected(
    use: Callable[..., weakref.ref[AssembledDevice]], until: Callable[..., None]
) -> None:
    driver = Watched(HostMachine())
    device = use(driver)
    for _ in range(3):  # a pool keeps its device until it has been collected itself
        gc.collect()
    until(driver.closed.is_set)
    until(lambda: (gc.collect(), device() is None)[1])


def test_collecting_it_waits_for_nothing(patience: float) -> None:
    """The thread that collects may be any, also a lane's own under the lock that closing asks for."""
    driver = Watched(HostMachine())
    device = used(driver)
    with driver.lock:
        gc.collect()
        assert not driver.closed.is_set()
    assert driver.closed.wait(patience)
    assert device() is None or device().closed


def test_native_objects_outlive_the_closing_of_their_driver(patience: float) -> None:
    """All finalizers of a garbage cycle run before any of them can keep the rest alive."""
    said: list[str] = []

    class Native:
        def __del__(self) -> None:
            said.append("gone")

    driver = Watched(HostMachine(), part=Native(), closing=lambda: said.append("closing"))
    closed = driver.closed
    device = assemble(driver)
    del driver, device
    gc.collect()
    assert closed.wait(patience)
    assert said[0] == "closing"


def test_no_thread_stays(until: Callable[..., None]) -> None:
    before = set(threading.enumerate())
    used(HostDriver(HostMachine()))
    gc.collect()
    until(lambda: not any(t.name.startswith("forge3d") for t in set(threading.enumerate()) - before))


def test_where_no_thread_starts_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is while the interpreter ends; what is open then is the exit hooks' business."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    driver = Watched(HostMachine())
    device = weakref.ref(assemble(driver))
    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    gc.collect()
    assert device() is None
    assert not driver.closed.is_set()


def test_a_closing_that_fails_is_logged(until: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ArithmeticError("the driver's own mistake")

    driver = Watched(HostMachine(), closing=fail)
    assemble(driver)
    gc.collect()
    until(lambda: "the driver's own mistake" in caplog.text)


def test_a_forked_child_leaves_its_parents_device_alone() -> None:
    ended = run_script(
        OPEN
        + """
    import _thread, gc, os
    driver = device.driver
    device.submit(device.command_list().fill(buffer, 1)).wait(5)
    child = os.fork()
    if not child:
        _thread.start_new_thread = lambda *_: os._exit(1)
        del device, buffer
        gc.collect()
        assert driver.machine._lanes.ended is None, "it was closed"
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    device.close()
"""
    )
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "7", "")
