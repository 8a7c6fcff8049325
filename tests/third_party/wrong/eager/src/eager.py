"""Wrong in one way: a submitted list is complete when the worker begins with it.

Nothing behind a held lane is complete, and memory nearly always shows the writes by the time that
anybody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from stranger.commands import CommandList
from stranger.device import StrangerDevice
from stranger.plugin import INFO, StrangerBackend

from forge3d_core.hookspecs import hookimpl
from forge3d_core.protocols import DeviceOptions


class Launched(list[Callable[[], None]]):
    """The work of a command list, which nobody waits for."""


class EagerDevice(StrangerDevice):
    info = attrs.evolve(INFO, backend="eager")

    def submit(self, commands: Any, **options: Any) -> Any:
        if isinstance(commands, CommandList):
            commands.work = Launched(commands.work)
        return super().submit(commands, **options)

    def carry_out(self, point: Any, behind: list[Any], steps: Sequence[Callable[[], None]]) -> None:
        if not isinstance(steps, Launched):
            super().carry_out(point, behind, steps)
            return
        super().carry_out(point, behind, ())
        for step in steps:
            step()


class EagerBackend(StrangerBackend):
    name, info = "eager", EagerDevice.info

    def device(self, machine: Any, options: DeviceOptions) -> EagerDevice:
        return EagerDevice(machine, options)


@hookimpl
def forge3d_backend() -> EagerBackend:
    return EagerBackend()
