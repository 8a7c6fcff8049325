"""Drivers that wait for the device where they must not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forge3d_conformance.mutants.driver.layer import MutantDriver, driver_mutant

LATE = "did not return while|did not come back"
ENDLESS = 5.0
"""Seconds after which these give up, so that a run of them ends."""


class Waiting(MutantDriver):
    """Knows what is in flight, and can wait until that is done."""

    def __init__(self, device: Any) -> None:
        super().__init__(device)
        self.flying: list[Any] = []

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        token = self.driver.submit(lane, commands, after)
        self.flying.append(token)
        return token

    def idle(self) -> None:
        for token in [*self.flying]:
            self.driver.wait(token, ENDLESS)


@driver_mutant("allocation-waits", breaks="device.nonblocking", because=LATE)
class AllocationWaits(Waiting):
    """Allocating a buffer waits until all lanes are idle."""

    def allocate_buffer(self, nbytes: int) -> Any:
        self.idle()
        return self.driver.allocate_buffer(nbytes)


@driver_mutant("block-waits", breaks="device.nonblocking", because=LATE)
class BlockWaits(Waiting):
    """Allocating host-visible memory waits until all lanes are idle."""

    def allocate_block(self, nbytes: int, direction: Any) -> Any:
        self.idle()
        return self.driver.allocate_block(nbytes, direction)


@driver_mutant("free-waits", breaks="device.nonblocking", because=LATE)
class FreeWaits(Waiting):
    """Giving memory back waits until all lanes are idle."""

    def free(self, native: Any) -> Any:
        self.idle()
        return self.driver.free(native)


@driver_mutant("64-in-flight", breaks="device.nonblocking", because=LATE)
class SixtyFourInFlight(Waiting):
    """With 64 submissions in flight the next waits for the oldest."""

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        self.flying = [token for token in self.flying if not self.driver.query(token)]
        if len(self.flying) >= 64:
            self.driver.wait(self.flying[0], ENDLESS)
        return super().submit(lane, commands, after)
