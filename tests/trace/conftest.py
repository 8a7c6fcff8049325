"""A device on the host, and a kernel that waits until a test lets it go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine


@pytest.fixture
def driver() -> HostDriver:
    return HostDriver(HostMachine(), owned=True)


@pytest.fixture
def device(driver: HostDriver) -> Iterator[AssembledDevice]:
    device = assemble(driver)
    yield device
    device.close()
