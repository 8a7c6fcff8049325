"""Errors that are none of forge3d's, out of each of a driver's calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.errors import DriverError, ForgeError
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.execution import Block
from forge3d_core.host.machine import HostMachine
from forge3d_core.protocols import DeviceOptions, KernelSource

ERROR = LookupError("not forge3d's")


def broken(*_: object) -> Any:
    raise ERROR


@pytest.fixture
def fragile() -> AssembledDevice:
    return assemble(HostDriver(HostMachine()), DeviceOptions(drain_timeout=0.1))


@pytest.mark.parametrize(
    ("call", "use"),
    [
        ("allocate_buffer", lambda device: device.create_buffer(4)),
        ("allocate_texture", lambda device: device.create_texture(4, 4)),
        ("allocate_block", lambda device: device.staging_ring()),
        ("footprint", lambda device: device.create_buffer(4)),
        ("adopt", lambda device: device.adopt(np.zeros(4))),
        ("compile", lambda device: device.create_kernel(KernelSource("k", {"host": print}))),
    ],
)
def test_what_a_call_for_one_caller_raises_is_that_callers(
    fragile: AssembledDevice,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    use: Callable[[AssembledDevice], object],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(HostDriver, call, broken)
        with pytest.raises(DriverError, match=r"LookupError.*not forge3d's") as caught:
            use(fragile)
    assert caught.value.__cause__ is ERROR
    use(fragile)
    fragile.close()
    assert fragile.budget.metrics().total_bytes == 0


def test_a_view_that_breaks_fails_the_read_or_the_slice(
    fragile: AssembledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, pool, buffer = fragile.staging_ring(), fragile.readback_pool(), fragile.create_buffer(4)
    read = pool.read(buffer)
    read.point.wait(5)
    slot = ring.reserve(4)
    with monkeypatch.context() as patch:
        patch.setattr(Block, "view", broken)
        for call in (lambda: slot.view, read.wait, read.wait):
            with pytest.raises(DriverError) as caught:
                call()
            assert caught.value.__cause__ is ERROR
    assert slot.view.size == 4
    slot.release()
    ring.upload(b"good", buffer)
    assert pool.read(buffer).wait(5).tobytes() == b"good"
    fragile.close()


def test_memory_that_cannot_be_freed_stays_charged_and_hurts_nobody(
    fragile: AssembledDevice, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    buffers = [fragile.create_buffer(64) for _ in range(2)]
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(HostDriver, "free", broken)
        for buffer in buffers:
            buffer.close()
        assert fragile.budget.metrics().total_bytes == 128
    assert caplog.text.count("not forge3d's") == 2
    fragile.create_buffer(4).close()
    assert fragile.budget.metrics().total_bytes == 128
    fragile.close()
    assert fragile.budget.metrics().total_bytes == 0


def test_one_lane_fails_and_the_others_go_on(
    fragile: AssembledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, others, pool = fragile.create_buffer(4), fragile.create_buffer(4), fragile.readback_pool()
    with monkeypatch.context() as patch:
        patch.setattr(HostDriver, "submit", broken)
        with pytest.raises(DriverError):
            fragile.submit(fragile.command_list().fill(ours, 1))
    assert pool.read(others).wait(5).tobytes() == bytes(4)
    for call in (lambda: pool.read(ours), lambda: fragile.submit(fragile.command_list().fill(others, 1))):
        with pytest.raises(DriverError, match="'compute'"):
            call()
    fragile.budget.metrics()
    pool.stats()
    fragile.close()
    assert fragile.budget.metrics().total_bytes == 0


def test_a_driver_that_cannot_close_says_so(
    fragile: AssembledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = fragile.lanes["compute"].timeline.point(1)
    with monkeypatch.context() as patch:
        patch.setattr(HostDriver, "close", broken)
        with pytest.raises(ForgeError, match="not forge3d's"):
            fragile.close()
    with pytest.raises(ForgeError, match="was closed"):
        point.wait(5)
