"""Drivers that get the bytes between host-visible blocks and buffers wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import numpy as np

from forge3d_conformance.mutants.driver.layer import MutantDriver, changing, driver_mutant
from forge3d_core.driver import Download, Upload

KIB, MIB = 1 << 10, 1 << 20
BYTES = "values differ"
NOUNS: dict[type, tuple[str, str]] = {
    Upload: ("upload", "ring.payload"),
    Download: ("download", "readback.exact"),
}


def _sized(command: Any, nbytes: int) -> Iterator[Any]:
    """Yield the command with another size, or nothing of none."""
    if nbytes > 0:
        yield attrs.evolve(command, nbytes=nbytes)


def _memory(command: Any) -> Any:
    return command.target if isinstance(command, Upload) else command.source


for _kind, (_noun, _clause) in NOUNS.items():
    for _rest in (1, 2, 3):
        changing(
            f"{_noun}-tail-{_rest}",
            _kind,
            f"An {_noun} of 4n + {_rest} bytes leaves the ragged end behind."
            if _kind is Upload
            else f"A {_noun} of 4n + {_rest} bytes leaves the ragged end behind.",
            lambda c, rest=_rest: _sized(c, c.nbytes - rest) if c.nbytes % 4 == rest else (c,),  # type: ignore[misc]
            breaks=_clause,
            because=BYTES,
        )
    for _chunk in (64 * KIB, 256 * KIB, MIB)[: 3 if _kind is Upload else 2]:  # larger reads come in pieces
        changing(
            f"{_noun}-chunk-{_chunk // KIB}k",
            _kind,
            f"Of several times {_chunk // KIB} KiB in one {_noun} the last are lost.",
            lambda c, chunk=_chunk: (  # type: ignore[misc]
                _sized(c, c.nbytes - chunk) if c.nbytes > chunk and c.nbytes % chunk == 0 else (c,)
            ),
            breaks=_clause,
            because=BYTES,
        )
    for _chunk in (4 * KIB, 64 * KIB, MIB):
        changing(
            f"{_noun}-rest-{_chunk // KIB}k",
            _kind,
            f"The {_noun} goes in pieces of {_chunk // KIB} KiB, and what is left over stays behind.",
            lambda c, chunk=_chunk: _sized(c, c.nbytes // chunk * chunk or c.nbytes),  # type: ignore[misc]
            breaks=_clause,
            because=BYTES,
        )
    changing(
        f"{_noun}-most-1m",
        _kind,
        f"What one {_noun} takes is cut at 1 MiB.",
        lambda c: _sized(c, min(c.nbytes, MIB)),
        breaks=_clause,
        because=BYTES,
    )
    changing(
        f"{_noun}-offset-16",
        _kind,
        f"The offset in the buffer of an {_noun} is kept in 16 bits.",
        lambda c: (attrs.evolve(c, offset=c.offset & 0xFFFF),),
        breaks=_clause,
        because=BYTES,
    )
    changing(
        f"{_noun}-offset-float",
        _kind,
        f"The offset of the {_noun} goes through a float, which has 24 bits for it.",
        lambda c: (attrs.evolve(c, offset=min(int(np.float32(c.offset)), _memory(c).nbytes - c.nbytes)),),
        breaks=_clause,
        because=BYTES,
    )
    changing(
        f"{_noun}-block-offset-16",
        _kind,
        f"The offset in the block of the {_noun} is kept in 16 bits.",
        lambda c: (attrs.evolve(c, block_offset=c.block_offset & 0xFFFF),),
        breaks=_clause,
        because=BYTES,
    )

changing(
    "upload-head",
    Upload,
    "An upload to an odd offset begins at the word before it.",
    lambda c: (attrs.evolve(c, offset=c.offset & ~3),),
    breaks="ring.payload",
    because=BYTES,
)
changing(
    "upload-block-offset-256",
    Upload,
    "An upload reads its block from a multiple of 256 on.",
    lambda c: (attrs.evolve(c, block_offset=c.block_offset & ~255),),
    breaks="ring.payload",
    because=BYTES,
)


@driver_mutant("uploads-backwards", breaks="ring.payload", because=BYTES)
class UploadsBackwards(MutantDriver):
    """The uploads of one submission are encoded from the last to the first."""

    def changed(self, commands: Iterable[Any]) -> Iterable[Any]:
        yield from reversed([*commands])


@driver_mutant("uploads-merged", breaks="ring.payload", because=BYTES)
class UploadsMerged(MutantDriver):
    """Of the uploads of one submission to the same offset the first is kept."""

    def changed(self, commands: Iterable[Any]) -> Iterable[Any]:
        seen: set[tuple[int, int]] = set()
        for command in commands:
            if isinstance(command, Upload):
                place = id(command.target.native), command.offset
                if place in seen:
                    continue
                seen.add(place)
            yield command
