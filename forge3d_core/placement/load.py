"""How much a device has to do, and how much of its budget is taken."""

from __future__ import annotations

import attrs

from forge3d_core.presentation import Figures, counted, line
from forge3d_core.protocols import Device
from forge3d_core.tiling.quality import available_bytes
from forge3d_core.units import format_bytes


@attrs.frozen
class DeviceLoad(Figures):
    """A snapshot of one device; sizes in bytes."""

    running: int  # items of a batch that it is working on
    outstanding: int  # submissions that are not complete
    host_visible_bytes: int
    limit_bytes: int
    device_local_bytes: int
    memory_bytes: int | None  # of the device, where that is known
    available_bytes: int  # host-visible, that its budget and the process have left

    @property
    def utilization(self) -> float:
        """The share of its memory that is taken: of the budget, or of the device's own if that is more."""
        host = self.host_visible_bytes / self.limit_bytes if self.limit_bytes else 1.0
        return max(host, self.device_local_bytes / self.memory_bytes if self.memory_bytes else 0.0)

    @property
    def order(self) -> tuple[int, int, float]:
        """What devices are compared by: items first, then submissions, then memory."""
        return self.running, self.outstanding, self.utilization

    def __repr__(self) -> str:
        return line(
            f"device load: {counted(self.running, 'item')}, {self.outstanding} submissions outstanding",
            f"{format_bytes(self.host_visible_bytes)} of {format_bytes(self.limit_bytes)} host-visible",
            f"{format_bytes(self.device_local_bytes)} device-local",
        )


def load_of(device: Device, running: int = 0) -> DeviceLoad:
    """Return the load of a device now; ``running`` items are what its caller has it work on."""
    timelines = {lane.timeline.name: lane.timeline for lane in device.lanes.values()}
    metrics = device.budget.metrics()
    return DeviceLoad(
        running=running,
        outstanding=sum(max(0, t.submitted - t.completed) for t in timelines.values()),
        host_visible_bytes=metrics.host_visible_bytes,
        limit_bytes=metrics.limit_bytes,
        device_local_bytes=metrics.device_local_bytes,
        memory_bytes=device.info.memory_bytes,
        available_bytes=available_bytes(device),
    )
