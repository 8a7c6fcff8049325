"""Drivers that keep the failure of a kernel to themselves, or tell it to everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forge3d_conformance.mutants.driver.layer import MutantDriver, driver_mutant
from forge3d_core.errors import KernelError


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
