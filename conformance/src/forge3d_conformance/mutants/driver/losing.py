"""Drivers that do not know what became of their work when the device was lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from forge3d_conformance.mutants.driver.layer import MutantDriver, driver_mutant
from forge3d_core.errors import DeviceLost

LONG = 16
"""Commands of a list that is taken to run at the loss."""


@driver_mutant(
    "lost-running-is-done", breaks="device.lost", because="instead of DeviceLost", requires=("lose",)
)
class LostRunningIsDone(MutantDriver):
    """A long list that runs when the device is lost counts as done."""

    def __init__(self, device: Any) -> None:
        super().__init__(device)
        self.long: list[Any] = []

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        token = self.driver.submit(lane, commands, after)
        if len(commands) > LONG:
            self.long.append(token)
        return token

    def query(self, token: Any) -> bool:
        return self._answered(token, lambda: self.driver.query(token))

    def wait(self, token: Any, seconds: float) -> bool:
        return self._answered(token, lambda: self.driver.wait(token, seconds))

    def check(self) -> None:
        if not self.long:
            self.driver.check()

    def _answered(self, token: Any, ask: Callable[[], bool]) -> bool:
        try:
            return ask()
        except DeviceLost:
            if token in self.long:
                return True
            raise
