"""Devices that do not run again what is submitted again, or not all of it, or something else."""

from __future__ import annotations

from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer, unwrap
from forge3d_core.errors import Closed, StateError


class Replays(Layer):
    """Knows how often each reusable list was submitted."""

    class Commands(Layer.Commands):
        reusable = False
        times = 0

    class Device(Layer.Device):
        def command_list(self, **options: Any) -> Any:
            made = self.layer.wrap("Commands", self.target.command_list(**options))
            made.reusable = options.get("reusable", False)
            return made

        def submit(self, commands: Any, **where: Any) -> Any:
            if not getattr(commands, "reusable", False):
                return self.real.submit(commands, **where)
            commands.times += 1
            return self.again(commands, where)

        def again(self, commands: Any, where: dict[str, Any]) -> Any:
            return self.real.submit(commands, **where)

        def nothing(self, where: dict[str, Any]) -> Any:
            where = {name: unwrap(value) for name, value in where.items()}
            return self.layer.wrap("Point", self.target.submit(self.target.command_list(), **where))


@mutant("device.replay-once", breaks="device.replay", because="of a list copied")
class ReplayOnce(Replays):
    """A list that was submitted is done with: the next time nothing runs."""

    class Device(Replays.Device):
        def again(self, commands: Any, where: dict[str, Any]) -> Any:
            return super().again(commands, where) if commands.times == 1 else self.nothing(where)


@mutant("device.replay-drops", breaks="device.replay", because="that 4 threads submitted|of a list copied")
class ReplayDrops(Replays):
    """Every fourth submission of a list is forgotten."""

    class Device(Replays.Device):
        def again(self, commands: Any, where: dict[str, Any]) -> Any:
            if commands.times % 4 == 0:
                return self.nothing(where)
            return super().again(commands, where)


@mutant("device.replay-point", breaks="device.replay", because="has the point of an earlier one")
class ReplayPoint(Replays):
    """Every submission of a list returns the point of the first."""

    class Device(Replays.Device):
        def again(self, commands: Any, where: dict[str, Any]) -> Any:
            point = super().again(commands, where)
            if commands.times == 1:
                commands.first = point
            return commands.first


@mutant("device.replay-grows", breaks="device.replay", because="recording on a reusable list")
class ReplayGrows(Replays):
    """A reusable list may be recorded on for ever, and what is added is lost."""

    class Commands(Replays.Commands):
        def fill(self, *args: Any, **kwargs: Any) -> Any:
            try:
                self.target.fill(*unwrap(args), **unwrap(kwargs))
            except StateError:
                if not self.reusable:
                    raise
            return self


@mutant("device.replay-of-closed", breaks="device.replay", because="names a closed buffer")
class ReplayOfClosed(Replays):
    """A list whose buffer was closed runs as if it were there: what was translated once is not looked at."""

    class Device(Replays.Device):
        def again(self, commands: Any, where: dict[str, Any]) -> Any:
            try:
                return super().again(commands, where)
            except Closed:
                if self.closed:
                    raise
                return self.nothing(where)
