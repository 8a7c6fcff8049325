"""Drivers that pack parameters, count threads or keep compiled kernels wrongly."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from forge3d_conformance.mutants.driver.layer import MutantDriver, changing, driver_mutant
from forge3d_core.driver import Dispatch

ARRIVED = "arrived as"


def _packed(pack: Callable[[str, Any], Any]) -> Callable[[Any], Iterator[Any]]:
    """Return a change that makes of each parameter what ``pack`` makes of its dtype and value."""

    def change(command: Any) -> Iterator[Any]:
        kinds = [param.dtype for param in command.kernel.source.params]
        yield attrs.evolve(command, params=tuple(map(pack, kinds, command.params)))

    return change


def _as_float(dtype: str, value: Any) -> Any:
    if dtype == "f4":
        return value
    (nearest,) = struct.unpack("<f", struct.pack("<f", value))
    return min(int(nearest), 2**32 - 1 if dtype == "u4" else 2**31 - 1)


PACKINGS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "param-float": ("Every parameter goes through a float of 4 bytes.", _as_float),
    "param-whole": (
        "A parameter of dtype f4 is cut to a whole number.",
        lambda dtype, v: float(int(v)) if dtype == "f4" and abs(v) < 1e9 else v,
    ),
    "param-unsigned": (
        "A negative parameter loses its sign.",
        lambda dtype, v: abs(v) % 2**31 if dtype == "i4" and v < 0 else v,
    ),
    "param-nan": ("A NaN is passed as 0.", lambda dtype, v: 0.0 if v != v else v),
    "param-infinite": (
        "An infinite parameter is clamped to the largest number.",
        lambda dtype, v: max(-3.4e38, min(3.4e38, v)) if dtype == "f4" else v,
    ),
    "param-31-bits": ("A u4 keeps 31 bits.", lambda dtype, v: v & 0x7FFFFFFF if dtype == "u4" else v),
}

for _name, (_about, _pack) in PACKINGS.items():
    changing(
        _name,
        Dispatch,
        _about,
        _packed(_pack),
        breaks="device.dispatch",
        because=ARRIVED,
        requires=("kernels",),
    )


def _without(axis: int) -> Callable[[Any], Iterator[Any]]:
    def change(command: Any) -> Iterator[Any]:
        threads = [1 if at == axis else n for at, n in enumerate(command.threads)]
        yield attrs.evolve(command, threads=tuple(threads))

    return change


def _swapped(command: Any) -> Iterator[Any]:
    yield attrs.evolve(command, threads=command.threads[::-1])


changing(
    "threads-swapped",
    Dispatch,
    "The extents of a dispatch are taken from z to x.",
    _swapped,
    breaks="device.dispatch",
    because="marks of|words after",
)


def _most(command: Any) -> Iterator[Any]:
    x, y, z = command.threads
    yield attrs.evolve(command, threads=(min(x, 1 << 20), y, z))


changing(
    "threads-20-bits",
    Dispatch,
    "Of more than a million threads the rest does not run.",
    _most,
    breaks="device.dispatch",
    because="words after",
)


def _floored_along(axis: int) -> Callable[[Any], Iterator[Any]]:
    def change(command: Any) -> Iterator[Any]:
        threads = [*command.threads]
        size = command.kernel.source.workgroup[axis]
        threads[axis] = threads[axis] // size * size or threads[axis]
        yield attrs.evolve(command, threads=tuple(threads))

    return change


for _axis, _letter in ((1, "y"), (2, "z")):
    changing(
        f"threads-floored-{_letter}",
        Dispatch,
        f"A count of threads in {_letter} is rounded down to whole workgroups.",
        _floored_along(_axis),
        breaks="device.dispatch",
        because="marks of",
        requires=("kernels",),
    )

for _axis, _letter in enumerate("xyz"):
    changing(
        f"threads-{_letter}",
        Dispatch,
        f"The extent of a dispatch in {_letter} is dropped.",
        _without(_axis),
        breaks="device.dispatch",
        because="differ" if _letter == "x" else "marks of",
        requires=() if _letter == "x" else ("kernels",),
    )


def _floored(command: Any) -> Iterator[Any]:
    size = command.kernel.source.workgroup[0]
    x, y, z = command.threads
    yield attrs.evolve(command, threads=(x // size * size or x, y, z))


changing(
    "threads-floored",
    Dispatch,
    "A count of threads is rounded down to whole workgroups when there is more than one.",
    _floored,
    breaks="device.dispatch",
    because="words after .* threads|marks of",
)


@driver_mutant("compiled-by-name", breaks="device.dispatch", because="of two kernels", requires=("kernels",))
class CompiledByName(MutantDriver):
    """What was compiled is kept by the kernel's name and signature, whatever its code."""

    def __init__(self, device: Any) -> None:
        super().__init__(device)
        self.compiled: dict[Any, Any] = {}

    def compile(self, source: Any) -> Any:
        key = source.name, source.bindings, source.params
        if key not in self.compiled:
            self.compiled[key] = self.driver.compile(source)
        return self.compiled[key]


@driver_mutant("param-last-of-list", breaks="device.dispatch", because="its own|mixed commands")
class ParamLastOfList(MutantDriver):
    """The parameters of a list's dispatches share one place, so that all of them see the last."""

    slots = 1

    def changed(self, commands: Iterable[Any]) -> Iterable[Any]:
        commands = [*commands]
        places = [at for at, command in enumerate(commands) if isinstance(command, Dispatch)]
        last = {
            (turn % self.slots, id(commands[at].kernel)): commands[at].params
            for turn, at in enumerate(places)
        }
        for turn, at in enumerate(places):
            params = last[turn % self.slots, id(commands[at].kernel)]
            commands[at] = attrs.evolve(commands[at], params=params)
        return commands


@driver_mutant("param-64-slots", breaks="device.dispatch", because="its own")
class Param64Slots(ParamLastOfList):
    """A list has places for the parameters of 64 dispatches, and uses them again."""

    slots = 64


@driver_mutant("param-8", breaks="device.dispatch", because="woven", requires=("bindings",))
class Param8(MutantDriver):
    """There is room for eight parameters; the others are 0."""

    def changed(self, commands: Iterable[Any]) -> Iterable[Any]:
        for command in commands:
            if isinstance(command, Dispatch):
                params = (*command.params[:8], *(0 * value for value in command.params[8:]))
                command = attrs.evolve(command, params=params)
            yield command


@driver_mutant("bindings-by-access", breaks="device.dispatch", because="woven", requires=("bindings",))
class BindingsByAccess(MutantDriver):
    """Buffers are bound in the order of their access: what is written comes last."""

    def changed(self, commands: Iterable[Any]) -> Iterable[Any]:
        for command in commands:
            if isinstance(command, Dispatch):
                pairs = zip(command.kernel.source.bindings, command.buffers, strict=True)
                ordered = sorted(pairs, key=lambda pair: pair[0].access != "read")
                command = attrs.evolve(command, buffers=tuple(buffer for _, buffer in ordered))
            yield command
