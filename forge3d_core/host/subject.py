"""What the host backend lends the conformance suite; found by entry point, imports nothing of the suite."""

from __future__ import annotations

from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.device.device import AssembledDevice
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.lanes import Hold
from forge3d_core.protocols import Buffer


@attrs.define(eq=False)
class HeldLane:
    """A gate before a lane; nothing passes until it is released, however long that takes."""

    _gate: Hold
    held: bool = True

    def release(self) -> None:
        self.held = False
        self._gate.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class HostSubject:
    """Everything that the suite can ask for is at hand on the host."""

    capabilities = frozenset({"hold", "peek", "lose", "adopt", "host_pressure"})

    def hold(self, device: AssembledDevice, lane: str, seconds: float) -> HeldLane:
        return HeldLane(_driver(device).hold(lane))

    def peek(self, device: AssembledDevice, buffer: Buffer, offset: int, nbytes: int) -> bytes:
        return _bytes(buffer)[offset : offset + nbytes].tobytes()

    def poke(self, device: AssembledDevice, buffer: Buffer, offset: int, data: bytes) -> None:
        _bytes(buffer)[offset : offset + len(data)] = np.frombuffer(data, np.uint8)

    def lose(self, device: AssembledDevice) -> None:
        _driver(device).lose("asked by the conformance suite")

    def foreign(self, device: AssembledDevice, nbytes: int) -> Any:
        return np.zeros(nbytes, np.uint8)

    def fail_next_allocation(self, device: AssembledDevice) -> None:
        _driver(device).fail_allocation()


def _driver(device: AssembledDevice) -> HostDriver:
    driver = device.driver
    assert isinstance(driver, HostDriver)
    return driver


def _bytes(buffer: Buffer) -> NDArray[np.uint8]:
    memory: NDArray[np.uint8] = buffer.native
    return memory
