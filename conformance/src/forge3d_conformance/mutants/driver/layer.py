"""Laying a defect over the driver of an assembled device: its commands, its order, its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from forge3d_conformance.faulty import FaultyDriver
from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core import assemble
from forge3d_core.protocols import DeviceOptions


class MutantDriver:
    """Passes every call on to the driver of ``device``; a defect overrides what it breaks.

    The subject meets this driver in the place of the sound one and sees through it.
    """

    def __init__(self, device: Any) -> None:
        self.device = device
        self.driver = device.driver

    def __getattr__(self, name: str) -> Any:
        if name in ("device", "driver"):  # of one that was never made
            raise AttributeError(name)
        return getattr(self.driver, name)

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        return self.driver.submit(lane, [*self.changed(commands)], after)

    def changed(self, commands: Iterable[Any]) -> Iterable[Any]:
        """Return the commands that reach the device."""
        return commands

    def close(self, timeout: float) -> bool | None:
        """Close the device below, whose only driver this is, and with it the driver."""
        self.device.close()
        return None


def beneath(device: Any) -> Any:
    """Return the device whose driver a defect lies over, which is what a subject knows; or ``device``."""
    while isinstance(driver := getattr(device, "driver", None), (MutantDriver, FaultyDriver)):
        device = driver.device
    return device


class DriverLayer(Layer):
    """A defect of the driver alone: the core above it is the same as ever."""

    driver: type[MutantDriver] = MutantDriver

    class Backend(Layer.Backend):
        def open(self, selector: str = "", options: DeviceOptions | None = None) -> Any:
            layer: Any = self.layer
            options = options or DeviceOptions()
            return assemble(layer.driver(self.target.open(selector, options)), options)


Change = Callable[[Any], Iterable[Any]]


def driver_mutant(
    name: str, *, breaks: str, because: str, requires: tuple[str, ...] = ()
) -> Callable[[type[MutantDriver]], type[MutantDriver]]:
    """Register the decorated driver as the mutant ``driver.<name>`` of the clause ``breaks``."""

    def register(driver: type[MutantDriver]) -> type[MutantDriver]:
        layer = type(driver.__name__, (DriverLayer,), {"driver": driver, "__doc__": driver.__doc__})
        layer.__module__, layer.__qualname__ = driver.__module__, driver.__qualname__
        mutant(f"driver.{name}", breaks=breaks, because=because, requires=("driver", *requires))(layer)
        return driver

    return register


def changing(
    name: str,
    kind: type,
    about: str,
    change: Change,
    *,
    breaks: str,
    because: str,
    requires: tuple[str, ...] = (),
) -> None:
    """Register a driver that makes of each command of ``kind`` what ``change`` yields for it."""

    class Changing(MutantDriver):
        def changed(self, commands: Iterable[Any]) -> Iterable[Any]:
            for command in commands:
                yield from change(command) if isinstance(command, kind) else (command,)

    Changing.__doc__ = about
    Changing.__name__ = Changing.__qualname__ = f"Changing[{name}]"
    driver_mutant(name, breaks=breaks, because=because, requires=requires)(Changing)
