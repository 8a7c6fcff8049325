"""Drivers that keep the failure of a kernel to themselves, or tell it to everybody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from forge3d_conformance.mutants.driver.layer import MutantDriver, driver_mutant
from forge3d_core.errors import DeviceLost, KernelError


@driver_mutant("failure-swallowed", breaks="device.failure", because="nothing was raised")
class FailureSwallowed(MutantDriver):
    """A submission whose kernel failed counts as done."""

    def query(self, token: Any) -> bool:
        return self._answered(lambda: self.driver.query(token))

    def wait(self, token: Any, seconds: float) -> bool:
        return self._answered(lambda: self.driver.wait(token, seconds))

    def _answered(self, ask: Callable[[], bool]) -> bool:
        try:
            return ask()
        except KernelError:
            return True


@driver_mutant(
    "failure-spreads",
    breaks="device.failure",
    because="beside one|failed as well|raise",
    requires=("concurrent_lanes",),
)
class FailureSpreads(MutantDriver):
    """A kernel that fails on one lane fails all lanes."""

    failure: KernelError | None = None

    def query(self, token: Any) -> bool:
        return self._answered(lambda: self.driver.query(token))

    def wait(self, token: Any, seconds: float) -> bool:
        return self._answered(lambda: self.driver.wait(token, seconds))

    def _answered(self, ask: Callable[[], bool]) -> bool:
        try:
            answer = ask()
        except KernelError as error:
            self.failure = error
            raise
        if self.failure is not None:
            raise KernelError(*self.failure.args)
        return answer


@driver_mutant(
    "failure-ends-there",
    breaks="device.failure",
    because="depends|nothing was raised",
    requires=("concurrent_lanes",),
)
class FailureEndsThere(MutantDriver):
    """What comes after a submission that fails, on another lane, runs all the same."""

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        return self.driver.submit(lane, commands, [token for token in after if self._sound(token)])

    def _sound(self, token: Any) -> bool:
        try:
            self.driver.wait(token, 1.0)
        except KernelError:
            return False
        return True


@driver_mutant("failure-never-told", breaks="device.failure", because="instead of|did not come|FenceTimeout")
class FailureNeverTold(MutantDriver):
    """A submission whose kernel failed is never complete, and never fails."""

    def query(self, token: Any) -> bool:
        try:
            return bool(self.driver.query(token))
        except KernelError:
            return False

    def wait(self, token: Any, seconds: float) -> bool:
        try:
            return bool(self.driver.wait(token, seconds))
        except KernelError:
            return False


@driver_mutant("failure-is-loss", breaks="device.failure", because="DeviceLost")
class FailureIsLoss(MutantDriver):
    """A kernel that fails is told as the loss of the device."""

    def query(self, token: Any) -> bool:
        return self._answered(lambda: self.driver.query(token))

    def wait(self, token: Any, seconds: float) -> bool:
        return self._answered(lambda: self.driver.wait(token, seconds))

    def _answered(self, ask: Callable[[], bool]) -> bool:
        try:
            return ask()
        except KernelError as error:
            raise DeviceLost("a kernel failed") from error
