"""Drivers that get the bytes of a command wrong: ragged ends, phases, multiples, limits of their integers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import numpy as np

from forge3d_conformance.mutants.driver.layer import MutantDriver, changing, driver_mutant
from forge3d_core.driver import Copy, Dispatch, Fill

KIB, MIB = 1 << 10, 1 << 20

BYTES = r"byte \d+ is|values differ"
NOUNS = {Fill: "fill", Copy: "copy"}


def _sized(command: Any, nbytes: int) -> Iterator[Any]:
    """Yield the command with another size, or nothing of none."""
    if nbytes > 0:
        yield attrs.evolve(command, nbytes=nbytes)


def _offset(command: Any) -> str:
    return "target_offset" if isinstance(command, Copy) else "offset"


def _at(command: Any, offset: int) -> Iterator[Any]:
    yield attrs.evolve(command, **{_offset(command): offset})


def _where(command: Any) -> int:
    return int(getattr(command, _offset(command)))


for _kind, _noun in NOUNS.items():
    for _rest in (1, 2, 3):
        changing(
            f"{_noun}-tail-{_rest}",
            _kind,
            f"A {_noun} of 4n + {_rest} bytes leaves the ragged end as it was.",
            lambda c, rest=_rest: _sized(c, c.nbytes - rest) if c.nbytes % 4 == rest else (c,),  # type: ignore[misc]
            breaks="device.commands",
            because=BYTES,
        )
    for _phase in (1, 2, 3):
        changing(
            f"{_noun}-head-{_phase}",
            _kind,
            f"A {_noun} at 4n + {_phase} begins at the word before that.",
            lambda c, phase=_phase: _at(c, _where(c) - phase) if _where(c) % 4 == phase else (c,),  # type: ignore[misc]
            breaks="device.commands",
            because=BYTES,
        )
    for _chunk in (64 * KIB, 256 * KIB, MIB):
        changing(
            f"{_noun}-chunk-{_chunk // KIB}k",
            _kind,
            f"A {_noun} of several times {_chunk // KIB} KiB loses the last of them.",
            lambda c, chunk=_chunk: (  # type: ignore[misc]
                _sized(c, c.nbytes - chunk) if c.nbytes > chunk and c.nbytes % chunk == 0 else (c,)
            ),
            breaks="device.commands",
            because=BYTES,
        )
    changing(
        f"{_noun}-offset-16",
        _kind,
        f"The offset of a {_noun} is kept in 16 bits.",
        lambda c: _at(c, _where(c) & 0xFFFF),
        breaks="device.commands",
        because=BYTES,
    )
    changing(
        f"{_noun}-offset-float",
        _kind,
        f"The offset of a {_noun} goes through a float, which has 24 bits for it.",
        lambda c: _at(c, min(int(np.float32(_where(c))), c.target.nbytes - c.nbytes)),
        breaks="device.commands",
        because=BYTES,
    )
    changing(
        f"{_noun}-small",
        _kind,
        f"A {_noun} of less than a word does nothing.",
        lambda c: (c,) if c.nbytes >= 4 else (),
        breaks="device.commands",
        because=BYTES,
    )
    changing(
        f"{_noun}-by-16",
        _kind,
        f"A {_noun} leaves what is behind the last whole 16 bytes.",
        lambda c: _sized(c, c.nbytes // 16 * 16 or c.nbytes),
        breaks="device.commands",
        because=BYTES,
    )
    changing(
        f"{_noun}-to-the-end",
        _kind,
        f"A {_noun} to the ragged end of a buffer stops at its last whole word.",
        lambda c: _sized(c, min(c.nbytes, (c.target.nbytes & ~3) - _where(c))),
        breaks="device.commands",
        because=BYTES,
    )
    changing(
        f"{_noun}-65535-groups",
        _kind,
        f"A {_noun} is one dispatch of 65 535 groups of 64 words: what is past 16 MiB stays as it was.",
        lambda c: _sized(c, min(c.nbytes, 65_535 * 256)),
        breaks="device.commands",
        because=BYTES,
    )
    changing(
        f"{_noun}-most-4m",
        _kind,
        f"A {_noun} of more than 4 MiB is cut there.",
        lambda c: _sized(c, min(c.nbytes, 4 * MIB)),
        breaks="device.commands",
        because=BYTES,
    )

changing(
    "copy-phase",
    Copy,
    "A copy whose offsets disagree modulo a word begins at its source's word.",
    lambda c: (
        (attrs.evolve(c, source_offset=c.source_offset & ~3),)
        if (c.source_offset - c.target_offset) % 4 and c.nbytes >= 4
        else (c,)
    ),
    breaks="device.commands",
    because=BYTES,
)
changing(
    "copy-within-64k",
    Copy,
    "A copy within one buffer goes through 64 KiB of memory aside, once.",
    lambda c: _sized(c, min(c.nbytes, 64 * KIB)) if c.source is c.target else (c,),
    breaks="device.commands",
    because=BYTES,
)
changing(
    "copy-within-back",
    Copy,
    "A copy within one buffer to what lies before it goes the other way.",
    lambda c: (
        (attrs.evolve(c, source_offset=c.target_offset, target_offset=c.source_offset),)
        if c.source is c.target and c.target_offset < c.source_offset
        else (c,)
    ),
    breaks="device.commands",
    because=BYTES,
)
changing(
    "copy-source-end",
    Copy,
    "A copy from the ragged end of a buffer stops at its last whole word.",
    lambda c: _sized(c, min(c.nbytes, (c.source.nbytes & ~3) - c.source_offset)),
    breaks="device.commands",
    because=BYTES,
)
changing(
    "fill-sign",
    Fill,
    "A fill value above 127 is taken for a negative one and becomes 0.",
    lambda c: (attrs.evolve(c, value=c.value if c.value < 128 else 0),),
    breaks="device.commands",
    because=BYTES,
)


@driver_mutant("list-of-16", breaks="device.commands", because="values differ")
class ListOf16(MutantDriver):
    """A list is one command buffer of 16 commands; the rest is dropped."""

    def changed(self, commands: Iterable[Any]) -> Iterable[Any]:
        return [*commands][:16]


@driver_mutant("list-backwards", breaks="device.commands", because=BYTES)
class ListBackwards(MutantDriver):
    """Fills that stand next to each other in a list are run in another order."""

    def changed(self, commands: Iterable[Any]) -> Iterable[Any]:
        fills: list[Any] = []
        for command in commands:
            if isinstance(command, Fill):
                fills.append(command)
                continue
            yield from reversed(fills)
            fills.clear()
            yield command
        yield from reversed(fills)


@driver_mutant("list-of-1024", breaks="device.commands", because="values differ")
class ListOf1024(MutantDriver):
    """A list has room for 1024 commands; the rest is dropped."""

    def changed(self, commands: Iterable[Any]) -> Iterable[Any]:
        return [*commands][:1024]


@driver_mutant("fill-last-value", breaks="device.commands", because=BYTES)
class FillLastValue(MutantDriver):
    """The values of a list's fills share one place, so that all of them see the last."""

    def changed(self, commands: Iterable[Any]) -> Iterable[Any]:
        commands = [*commands]
        values = [command.value for command in commands if isinstance(command, Fill)]
        return [attrs.evolve(c, value=values[-1]) if isinstance(c, Fill) else c for c in commands]


@driver_mutant("copies-first", breaks="device.commands", because=BYTES)
class CopiesFirst(MutantDriver):
    """The copies of a list are encoded before its fills."""

    def changed(self, commands: Iterable[Any]) -> Iterable[Any]:
        return sorted(commands, key=lambda command: isinstance(command, Fill))


@driver_mutant("dispatches-last", breaks="device.dispatch", because="mixed commands")
class DispatchesLast(MutantDriver):
    """The dispatches of a list are one pass, behind all else."""

    def changed(self, commands: Iterable[Any]) -> Iterable[Any]:
        return sorted(commands, key=lambda command: isinstance(command, Dispatch))
