"""A driver that raises what it is told to, in front of that of a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from forge3d_core.errors import OutOfDeviceMemory

CALLS = ("submit", "query", "wait", "retire", "check")
"""The calls that wait for a lane's work or stand behind those who do."""


@attrs.define(eq=False)
class FaultyDriver:
    """Passes every call on to ``driver``, but for what it was told to break.

    To close it closes nothing: that is for the device whose driver it is.
    """

    driver: Any
    device: Any = None  # whose driver that is
    _call: str = ""
    _lane: str = ""
    _error: Exception | None = None
    _lanes: dict[int, str] = attrs.field(factory=dict)  # of the tokens, by their id
    allocations: int = 0  # that were asked for since the last :meth:`refuse`
    _refused: int | None = None
    _lingers: float = 0.0

    def fail(self, call: str, lane: str, error: Exception) -> None:
        """Have ``call`` raise ``error`` from now on wherever it concerns work of ``lane``."""
        self._call, self._lane, self._error = call, lane, error

    def linger(self, seconds: float) -> None:
        """Have every wait for work that is not done last so long, if the work does."""
        self._lingers = seconds

    def refuse(self, number: int | None) -> None:
        """Refuse allocation ``number``, counted from 0 and from now, and all after it; None: none."""
        self.allocations, self._refused = 0, number

    def allocate_buffer(self, *args: Any) -> Any:
        return self._allocate(self.driver.allocate_buffer, *args)

    def allocate_texture(self, *args: Any) -> Any:
        return self._allocate(self.driver.allocate_texture, *args)

    def allocate_block(self, *args: Any) -> Any:
        return self._allocate(self.driver.allocate_block, *args)

    def _allocate(self, allocate: Callable[..., Any], *args: Any) -> Any:
        number, self.allocations = self.allocations, self.allocations + 1
        if self._refused is not None and number >= self._refused:
            raise OutOfDeviceMemory(f"allocation {number} was refused for the conformance suite")
        return allocate(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        self._meet("submit", lane)
        token = self.driver.submit(lane, commands, after)
        self._lanes[id(token)] = lane
        return token

    def query(self, token: Any) -> bool:
        lane = self._lanes.get(id(token), "")
        self._meet("query", lane)
        if (self._call, self._lane) == ("wait", lane):
            return False  # or nobody would come to wait
        return bool(self.driver.query(token))

    def wait(self, token: Any, seconds: float) -> bool:
        lane = self._lanes.get(id(token), "")
        self._meet("query", lane)  # a wait is a query that takes its time
        self._meet("wait", lane)
        return bool(self.driver.wait(token, max(seconds, self._lingers)))

    def retire(self, token: Any) -> None:
        self._meet("retire", self._lanes.get(id(token), ""))
        self.driver.retire(token)

    def check(self) -> None:
        self._meet("check", self._lane)
        self.driver.check()

    def close(self, timeout: float) -> None: ...

    def _meet(self, call: str, lane: str) -> None:
        if self._error is not None and (call, lane) == (self._call, self._lane):
            raise self._error
