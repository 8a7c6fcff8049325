"""Drivers that wait for the device where they must not."""

from __future__ import annotations

import threading
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


@driver_mutant("texture-waits", breaks="device.nonblocking", because=LATE, requires=("textures",))
class TextureWaits(Waiting):
    """Making a texture waits until all lanes are idle."""

    def allocate_texture(self, width: int, height: int, format: Any) -> Any:
        self.idle()
        return self.driver.allocate_texture(width, height, format)


@driver_mutant("submit-waits", breaks="device.nonblocking", because=LATE)
class SubmitWaits(Waiting):
    """A submission waits for the one before it."""

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        if self.flying:
            self.driver.wait(self.flying.pop(), ENDLESS)
        return super().submit(lane, commands, after)


@driver_mutant(
    "submit-waits-after", breaks="device.nonblocking", because=LATE, requires=("concurrent_lanes",)
)
class SubmitWaitsAfter(MutantDriver):
    """A submission waits on the host for what it comes after on another lane."""

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        for token in after:
            self.driver.wait(token, ENDLESS)
        return self.driver.submit(lane, commands, ())


@driver_mutant("query-waits", breaks="fence.nonblocking-query", because="did not return|did not come")
class QueryWaits(MutantDriver):
    """To ask is to wait."""

    def query(self, token: Any) -> bool:
        return bool(self.driver.wait(token, ENDLESS))


class Locking(MutantDriver):
    """Holds a lock while it waits."""

    def __init__(self, device: Any) -> None:
        super().__init__(device)
        self.lock = threading.Lock()

    def wait(self, token: Any, seconds: float) -> bool:
        with self.lock:
            return bool(self.driver.wait(token, seconds))


@driver_mutant("wait-locks-submit", breaks="device.nonblocking", because=LATE)
class WaitLocksSubmit(Locking):
    """A wait holds the lock that submitting takes."""

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        with self.lock:
            return self.driver.submit(lane, commands, after)


@driver_mutant("wait-locks-query", breaks="device.nonblocking", because=LATE)
class WaitLocksQuery(Locking):
    """A wait holds the lock that asking takes."""

    def query(self, token: Any) -> bool:
        with self.lock:
            return bool(self.driver.query(token))


@driver_mutant("wait-locks-allocate", breaks="device.nonblocking", because=LATE)
class WaitLocksAllocate(Locking):
    """A wait holds the lock that allocating takes."""

    def allocate_buffer(self, nbytes: int) -> Any:
        with self.lock:
            return self.driver.allocate_buffer(nbytes)


@driver_mutant("adopt-waits", breaks="device.nonblocking", because=LATE, requires=("adopt",))
class AdoptWaits(Waiting):
    """Adopting memory waits until all lanes are idle."""

    def adopt(self, native: Any) -> Any:
        self.idle()
        return self.driver.adopt(native)
