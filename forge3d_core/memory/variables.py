"""The variables of the calls that the calling thread is in, as references to what they name."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from inspect import CO_OPTIMIZED
from types import CodeType, FrameType
from typing import Any

import attrs

COPIED = 2


@attrs.define(eq=False)
class Variables:
    """The variables of one call; each is ``copies`` references to what it names."""

    values: Mapping[str, Any]
    copies: int
    of_module: bool
    _code: CodeType

    def naming(self, ones: set[int]) -> int:
        """Return how many of the call's own variables name one of the objects that have these ids.

        Not those that are shared with closures, which other calls, and other threads, have too.
        """
        count, code = 0, self._code
        for name, value in self.values.items():
            if id(value) in ones and name not in code.co_cellvars and name not in code.co_freevars:
                count += 1
        return count

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
        function = code.co_flags & CO_OPTIMIZED
        # A mapping that is no dict may show what another has.
        if function or (type(values) is dict and id(values) not in seen):
            if not function:
                seen.add(id(values))
            # Of a function this is a copy, which refers once more, up to Python 3.12; a class body's is not.
            copies = COPIED if function and type(values) is dict else 1
            call = Variables(values, copies, values is frame.f_globals, code)
            del values  # the call alone has them now, by which it can tell
            yield call
        frame = frame.f_back
