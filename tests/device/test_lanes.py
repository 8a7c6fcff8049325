"""The names that a device's lanes go by."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest

from forge3d_core.device.device import assemble
from forge3d_core.errors import UsageError
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.protocols import LANE_ROLES


class FewLanes:
    """The host driver with lanes of other names."""

    def __init__(self, lanes: tuple[str, ...]) -> None:
        self.driver = HostDriver(HostMachine())
        self.names = dict(zip(lanes, LANE_ROLES, strict=False))
        limits = attrs.evolve(self.driver.info.limits, lanes=lanes)
        self.info = attrs.evolve(self.driver.info, limits=limits)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)

    def submit(self, lane: str, commands: Any, after: Any) -> Any:
        return self.driver.submit(self.names[lane], commands, after)


@pytest.mark.parametrize("lanes", [("main",), ("compute", "copy"), ("a", "download", "b")])
def test_the_standard_names_stand_for_the_first_lane_where_there_is_none(lanes: tuple[str, ...]) -> None:
    with assemble(FewLanes(lanes)) as device:
        for role in LANE_ROLES:
            assert device.lanes[role].name == (role if role in lanes else lanes[0])
        buffer, data = device.create_buffer(64), np.arange(64, dtype=np.uint8)
        with device.staging_ring(buffer_size=64) as ring, device.readback_pool(buffer_size=64) as pool:
            ring.upload(data, buffer)
            device.submit(device.command_list().fill(buffer, 7, nbytes=4))
            assert pool.read(buffer).wait(20).tolist() == [7] * 4 + data[4:].tolist()
        assert sum(device.lanes[lane].timeline.submitted for lane in lanes) == 3
        device.wait_idle(20)


def test_a_device_without_lanes_is_refused() -> None:
    for lanes in ((), ("",), (1,)):
        with pytest.raises(UsageError, match="lanes"):
            attrs.evolve(HostDriver(HostMachine()).info.limits, lanes=lanes)
