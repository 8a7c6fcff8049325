"""Drivers that get the rows of textures wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from forge3d_conformance.mutants.driver.layer import changing
from forge3d_core.driver import DownloadRows, UploadRows

changing(
    "rows-origin",
    UploadRows,
    "Rows that do not begin in the first column begin one texel before.",
    lambda c: (attrs.evolve(c, origin=(max(0, c.origin[0] - 1), c.origin[1])),),
    breaks="ring.rows",
    because="values differ",
    requires=("textures",),
)
changing(
    "rows-last",
    UploadRows,
    "The last of several rows is lost.",
    lambda c: (attrs.evolve(c, size=(c.size[0], c.size[1] - 1)) if c.size[1] > 1 else c,),
    breaks="ring.rows",
    because="values differ",
    requires=("textures",),
)


def _row(command: Any) -> int:
    """Return the bytes of a row of texels."""
    texture = command.target if isinstance(command, UploadRows) else command.source
    return int(command.size[0] * texture.format.block_bytes)


def _wide(command: Any, width: int) -> Iterable[Any]:
    return (attrs.evolve(command, size=(width, command.size[1])),) if width else ()


DEFECTS: dict[str, tuple[str, Callable[[Any], Iterable[Any]]]] = {
    "wide": (
        "Of rows of more than 256 texels the rest is lost",
        lambda c: _wide(c, min(c.size[0], 256)),
    ),
    "high": (
        "Of more than 64 rows the rest is lost",
        lambda c: (attrs.evolve(c, size=(c.size[0], min(c.size[1], 64))),),
    ),
    "exact": (
        "Rows whose bytes are a multiple of 256 lose their last texel",
        lambda c: _wide(c, c.size[0] - (_row(c) % 256 == 0)),
    ),
    "odd": (
        "Rows whose bytes are no multiple of 4 lose their last texel",
        lambda c: _wide(c, c.size[0] - (_row(c) % 4 != 0)) if c.size[0] > 1 else (c,),
    ),
    "swapped": (
        "x and y of the origin are taken for each other where both fit",
        lambda c: (
            (
                (attrs.evolve(c, origin=c.origin[::-1]),)
                if all(
                    at + n <= side
                    for at, n, side in zip(
                        c.origin[::-1],
                        c.size,
                        (texture.width, texture.height),
                        strict=True,
                    )
                )
                else (c,)
            )
            if (texture := c.target if isinstance(c, UploadRows) else c.source)
            else ()
        ),
    ),
    "block-offset": (
        "The offset in the block is kept in 12 bits",
        lambda c: (attrs.evolve(c, block_offset=c.block_offset & 0xFFF),),
    ),
}

DIRECTIONS = ((UploadRows, "rows", "ring.rows"), (DownloadRows, "down", "readback.exact"))

for _name, (_about, _change) in DEFECTS.items():
    for _kind, _noun, _clause in DIRECTIONS[
        : 1 if _name == "block-offset" else 2
    ]:  # a read has its own block
        changing(
            f"{_noun}-{_name}",
            _kind,
            f"{_about}, in {'an upload' if _kind is UploadRows else 'a read'}.",
            _change,
            breaks=_clause,
            because="differ",
            requires=("textures",),
        )
