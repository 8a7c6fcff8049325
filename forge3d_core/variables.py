"""The variables of the calls that the calling thread is in, as references to what they name."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import attrs

COPIED = 2


@attrs.frozen
class Variables:
    """The variables of one call; each is ``copies`` references to what it names."""

    values: Mapping[str, Any]
    copies: int
    shared: frozenset[str]  # with closures, which other calls, and other threads, have too
    of_module: bool

    def naming(self, ones: set[int]) -> int:
        """Return how many of the call's own variables name one of the objects that have these ids."""
        same = [name for name, value in self.values.items() if id(value) in ones]
        return sum(name not in self.shared for name in same)

    def references(self, one: object) -> int:
        return self.copies * self.naming({id(one)})

    def forget(self) -> None:
        """Empty the copy, which stays with the call, and would keep what its variables let go of."""
        if self.copies == COPIED and sys.getrefcount(self.values) <= 3:  # else locals() has it
            self.values.clear()  # type: ignore[attr-defined]


def variables(frame: FrameType | None) -> Iterator[Variables]:
    """Yield those of ``frame`` and of its callers; a module's or a class's once, whatever runs in it."""
    seen: set[int] = set()
    while frame is not None:
        code, values = frame.f_code, frame.f_locals
        function = code.co_flags & inspect.CO_OPTIMIZED
        if function or id(values) not in seen:
            # Of a function this is a copy, which refers once more, up to Python 3.12; a class body's is not.
            copies = COPIED if function and type(values) is dict else 1
            if not function:
                seen.add(id(values))
            shared = frozenset((*code.co_cellvars, *code.co_freevars))
            call = Variables(values, copies, shared, of_module=values is frame.f_globals)
            del values, code  # the call alone has them now, by which it can tell
            yield call
        frame = frame.f_back
