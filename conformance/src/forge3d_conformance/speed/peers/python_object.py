"""What Python itself asks for the least: an attribute behind a property."""

from __future__ import annotations

from forge3d_conformance.speed.contestant import Runner, unknown
from forge3d_core.protocols import Device


class Flag:
    """An object whose ``done`` is a property over one comparison."""

    __slots__ = ("_completed", "_value")

    def __init__(self) -> None:
        self._value, self._completed = 1, 2

    @property
    def done(self) -> bool:
        return self._completed >= self._value


class PythonObject:
    name = "python"

    def runner(self, operation: str, _nbytes: int) -> Runner:
        if operation != "property":
            raise unknown(self.name, operation)
        flag = Flag()
        return Runner(lambda: flag.done)

    def close(self) -> None:
        """Nothing is held."""


def make(_device: Device) -> PythonObject:
    return PythonObject()
