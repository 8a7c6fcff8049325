"""Sizes as people write them: ``"4 MiB"``, ``"1.5GB"``, ``65536``."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import SupportsIndex

from forge3d_core.arguments import integer, shown
from forge3d_core.errors import UsageError, WrongType

_UNITS = {
    "": 1,
    "b": 1,
    **{p: 1000**i for i, p in enumerate(("kb", "mb", "gb", "tb"), 1)},
    **{p: 1024**i for i, p in enumerate(("kib", "mib", "gib", "tib"), 1)},
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)

KIB, MIB, GIB = 1024, 1024**2, 1024**3

MAX_TEXT = 64
"""Characters of a size; more are no size that a computer has."""

MAX_EXACT = 2**100
"""Where sizes for people end; a float could not hold what an int can."""


def parse_bytes(size: SupportsIndex | str) -> int:
    """Return a number of bytes from an int or from text such as ``"4 MiB"`` or ``"2 GB"``.

    Powers of 1024 carry the ``i`` (KiB, MiB, GiB, TiB), powers of 1000 do not. Raises
    :class:`UsageError` for a negative number, an unknown unit or a fraction of a byte.
    """
    if not isinstance(size, str):
        try:
            number = integer("a size", size)
        except WrongType:
            raise WrongType(f"a size is an int or text such as '4 MiB', not {shown(size)}") from None
        if number < 0:
            raise UsageError(f"a size is a number of bytes from 0 up, not {shown(number)}")
        return number
    match = _SIZE.fullmatch(size[:MAX_TEXT])
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None or len(size) > MAX_TEXT:
        raise UsageError(f"{shown(size)} is not a size; write for example '512 MiB', '2 GB' or '65536'")
    value = Fraction(match[1]) * unit
    if value.denominator != 1:
        raise UsageError(f"{size!r} is not a whole number of bytes")
    return int(value)


def format_bytes(nbytes: int) -> str:
    """Return ``nbytes`` for people: ``'512 B'``, ``'4 MiB'``, ``'1.25 GiB'``."""
    size = float(min(max(nbytes, -MAX_EXACT), MAX_EXACT))
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024 or unit == "GiB":
            return f"{size:.4g} {unit}" if size < 1000 else f"{size:.0f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def align_up(value: int, alignment: int) -> int:
    """Return the least multiple of ``alignment`` that is not below ``value``."""
    return -(-value // alignment) * alignment
