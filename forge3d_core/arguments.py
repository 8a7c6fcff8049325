"""What public calls are given: checked and converted at the edge, one function for each kind of argument.

A whole number is whatever ``operator.index`` takes (int, IntEnum, every numpy integer, a 0-d array of
one) and leaves here as a Python int, which no sum overflows. A bool is not a number of anything, and a
float is not whole even where its value is: both are refused.
"""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Set
from operator import index
from typing import Any, SupportsIndex, TypeVar

import numpy as np
from numpy.ma import MaskedArray

from forge3d_core.errors import UsageError, WrongType
from forge3d_core.printable import escaped

F = TypeVar("F", bound=Callable[..., Any])

MAX_SHOWN = 80
"""Characters of a foreign value that a message shows."""

MAX_AXES, MAX_ITEMS = 32, 2**56
"""Of an array; numpy itself ends a little further on."""

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = MAX_SHOWN


def shown(value: object) -> str:
    """Return a short repr in one line of printable characters. Never raises."""
    try:
        if isinstance(value, int) and value.bit_length() > 128:
            return f"an int of {value.bit_length()} bits"
        text = _REPR.repr(value)
    except (Exception, SystemExit):
        text = f"a {type(value).__name__}"
    text = escaped(" ".join(text.split()))
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def integer(what: str, value: SupportsIndex) -> int:
    """Return a whole number as a Python int. Raises :class:`WrongType`."""
    if type(value) is int:
        return value
    if not isinstance(value, (bool, MaskedArray)):
        try:
            return index(value)
        except Exception:  # a foreign __index__ may raise anything
            pass
    raise WrongType(f"{what} is a whole number, not {shown(value)}")


def at_least(least: int, what: str, value: SupportsIndex) -> int:
    """Return a whole number from ``least`` up. Raises :class:`UsageError`."""
    number = integer(what, value)
    if number < least:
        raise UsageError(f"{what} is a whole number from {least} up, not {shown(number)}")
    return number


def sequence(what: str, value: Iterable[Any]) -> tuple[Any, ...]:
    """Return what an ordered collection holds. Raises :class:`WrongType`, also for text and for one item."""
    if isinstance(value, (tuple, list)):
        return tuple(value)
    if not isinstance(value, (str, bytes, bytearray, Mapping, Set)):
        try:
            return tuple(value)
        except TypeError:
            pass
    raise WrongType(f"{what} is a sequence, not {shown(value)}; write [...] around a single one")


def pair(what: str, value: Iterable[SupportsIndex]) -> tuple[int, int]:
    """Return two whole numbers, such as (x, y) or (width, height). Raises :class:`UsageError`."""
    if type(value) is tuple and len(value) == 2 and type(value[0]) is int and type(value[1]) is int:
        return value[0], value[1]
    numbers = sequence(what, value)
    if len(numbers) != 2:
        raise UsageError(f"{what} is two whole numbers such as (0, 0), not {shown(value)}")
    return integer(what, numbers[0]), integer(what, numbers[1])


def extents(what: str, value: SupportsIndex | Iterable[SupportsIndex]) -> tuple[int, ...]:
    """Return a whole number, or several of them, as a tuple; none is negative. Raises :class:`UsageError`."""
    if type(value) is tuple and len(value) == 1 and type(only := value[0]) is int and only > 0:
        return (only,)  # what most reads are
    if isinstance(value, Iterable) and getattr(value, "ndim", None) != 0:
        wanted = tuple(integer(what, n) for n in sequence(what, value))
    else:
        wanted = (integer(what, value),)  # type: ignore[arg-type]
    if any(n < 0 for n in wanted):
        raise UsageError(f"{what} {shown(value)} has a negative extent")
    if len(wanted) > MAX_AXES or (0 in wanted and math.prod(n or 1 for n in wanted) > MAX_ITEMS):
        raise UsageError(f"{what} {shown(value)} is more than an array can have")
    return wanted


def threads(what: str, value: SupportsIndex | Iterable[SupportsIndex]) -> tuple[int, int, int]:
    """Return one to three whole numbers from 1 as (x, y, z). Raises :class:`UsageError`."""
    try:
        given = extents(what, value)
    except UsageError:
        given = ()
    if not 1 <= len(given) <= 3 or min(given) < 1:
        raise UsageError(f"{what} is an int or up to three of them, each from 1, not {shown(value)}")
    x, y, z = (*given, 1, 1)[:3]
    return x, y, z


def real(what: str, value: float) -> float:
    """Return a number as a Python float; never NaN. Raises :class:`UsageError`."""
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf if value > 0 else -math.inf
        if not math.isnan(number):
            return number
    raise WrongType(f"{what} is a number, not {shown(value)}")


def text(what: str, value: str) -> str:
    """Return text. Raises :class:`WrongType`."""
    if not isinstance(value, str):
        raise WrongType(f"{what} is text, not {shown(value)}")
    return value


def flag(what: str, value: bool) -> bool:
    """Return True or False, also from numpy's. Raises :class:`WrongType`."""
    if not isinstance(value, (bool, np.bool_)):
        raise WrongType(f"{what} is True or False, not {shown(value)}")
    return bool(value)


def function(what: str, value: F) -> F:
    """Return what can be called. Raises :class:`WrongType`."""
    if not callable(value):
        raise WrongType(f"{what} is a function, not {shown(value)}")
    return value


def keywords(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise :class:`WrongType` for a keyword that a call does not take, and name the nearest."""
    names = sorted(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(names)}"
            raise WrongType(f"{what} has no argument {shown(name)}; {advice}")


def one_of(*choices: str) -> Callable[[object, Any, object], None]:
    """Return an attrs validator that lets through the given words alone. It raises :class:`UsageError`."""
    listed = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"

    def check(_instance: object, attribute: Any, value: object) -> None:
        if not isinstance(value, str) or value not in choices:
            raise UsageError(f"{attribute.name} is {listed}, not {shown(value)}")

    return check
