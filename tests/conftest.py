"""A host device whose lanes the tests hold, and threads whose end they can wait for."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import forge3d_core
from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.errors import BackendError
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.host.options import parse_selector
from forge3d_core.protocols import Device, DeviceOptions

STRANGER = Path(__file__).parent / "third_party" / "src"

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


@pytest.fixture(params=["ours", "a stranger's"])
def any_device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """Return a device that the core assembled, and then one that shares no code with it."""
    if request.param == "ours":
        yield request.getfixturevalue("device")
        return
    monkeypatch.syspath_prepend(str(STRANGER))
    from stranger.plugin import StrangerBackend

    with StrangerBackend().open() as device:
        yield device
    for name in [name for name in sys.modules if name.partition(".")[0] == "stranger"]:
        del sys.modules[name]


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


BACKENDS = ("host", "host:?pitch=256&align=4", "wgpu", "cuda")


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """What to open: every backend in turn, and the host with the alignments of WebGPU.

    One that this machine lacks is skipped, or fails where FORGE3D_REQUIRE names it.
    """
    name: str = request.param
    try:
        forge3d_core.open_device(name).close()
    except BackendError as error:
        if name.partition(":")[0] in os.environ.get("FORGE3D_REQUIRE", "").split(","):
            pytest.fail(f"FORGE3D_REQUIRE names {name}: {error}")
        pytest.skip(f"no {name} here: {error}")
    return name
