"""Our figures beside the driver's and the system's: three views of one process's memory."""

from __future__ import annotations

import os
from typing import Any

import attrs

from forge3d_core.driver import MemoryReporting
from forge3d_core.foreign import asking
from forge3d_core.presentation import Figures, line
from forge3d_core.units import format_bytes


@attrs.frozen
class MemoryFigures(Figures):
    """What the budget, the driver and the system say. Bytes; None where nothing tells.

    ``device_used_bytes`` is of the whole device: contexts, kernels, what pools of the driver keep, and other
    processes are in it and in no budget. ``resident_bytes`` is of the whole process, Python included.
    """

    device_local_bytes: int  # the budget's
    host_visible_bytes: int  # the budget's
    device_used_bytes: int | None
    device_total_bytes: int | None
    resident_bytes: int | None
    adopted_bytes: int = 0  # that others made and the device works with, each counted once

    @property
    def unaccounted_bytes(self) -> int | None:
        """What the driver has in use beyond what the budget counts and the device has adopted."""
        if self.device_used_bytes is None:
            return None
        return self.device_used_bytes - self.device_local_bytes - self.adopted_bytes

    def __repr__(self) -> str:
        beyond = self.unaccounted_bytes
        return line(
            f"budget: {format_bytes(self.device_local_bytes)} device-local, "
            f"{format_bytes(self.host_visible_bytes)} host-visible",
            f"adopted: {format_bytes(self.adopted_bytes)}" if self.adopted_bytes else "",
            f"driver: {_shown(self.device_used_bytes)} in use of {_shown(self.device_total_bytes)}",
            "" if beyond is None else f"{'-' * (beyond < 0)}{format_bytes(abs(beyond))} beyond that",
            f"resident: {_shown(self.resident_bytes)}",
        )


def memory_figures(device: Any) -> MemoryFigures:
    """Return the figures of a device, not all of one instant. Thread-safety: any thread.

    Raises :class:`Closed` where the driver would have to be asked and has closed.
    """
    used = total = None
    driver = getattr(device, "driver", None)
    if isinstance(driver, MemoryReporting):
        device.check()
        with device.allocator.gate.passing(), asking("the driver's memory_info"):
            free, total = driver.memory_info()
        used = total - free
    ours, allocator = device.budget.metrics(), getattr(device, "allocator", None)
    return MemoryFigures(
        ours.device_local_bytes,
        ours.host_visible_bytes,
        used,
        total,
        resident_bytes(),
        0 if allocator is None else allocator.adopted_bytes,
    )


def resident_bytes(statm: str = "/proc/self/statm") -> int | None:
    """Return the bytes of this process that are in memory, or None where the system does not say so here."""
    try:
        with open(statm, encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _shown(nbytes: int | None) -> str:
    return "unknown" if nbytes is None else format_bytes(nbytes)
