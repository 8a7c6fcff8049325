"""A host device whose lanes the tests hold, and threads whose end they can wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from forge3d_core.device import AssembledDevice, assemble
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.host.options import parse_selector
from forge3d_core.protocols import DeviceOptions

PATIENCE = 20.0  # seconds; only a failing test waits that long


@pytest.fixture(scope="session")
def patience() -> float:
    return PATIENCE


@pytest.fixture
def open_device() -> Iterator[Callable[..., AssembledDevice]]:
    """Return a function that opens a host device, closed at the end of the test."""
    opened: list[AssembledDevice] = []

    def make(selector: str = "", **options: Any) -> AssembledDevice:
        machine = HostMachine(parse_selector(selector))
        device = assemble(HostDriver(machine, selector=selector or "0"), DeviceOptions(**options))
        opened.append(device)
        return device

    yield make
    for device in opened:
        device.close()


@pytest.fixture
def device(open_device: Callable[..., AssembledDevice]) -> AssembledDevice:
    return open_device()


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Any]]]:
    """Return a function that calls another on a thread of its own; every thread must end with the test."""
    threads: list[threading.Thread] = []

    def start(function: Callable[..., Any], *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(function(*args, **named))
            except BaseException as error:
                future.set_exception(error)

        thread = threading.Thread(target=run, daemon=True)
        threads.append(thread)
        thread.start()
        return future

    yield start
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread of this test is still waiting"


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Return a function that waits for what another thread is about to do."""
    tick = threading.Event()

    def wait(condition: Callable[[], bool]) -> None:
        for _ in range(int(PATIENCE / 0.001)):
            if condition():
                return
            tick.wait(0.001)
        raise AssertionError("it never happened")

    return wait
