"""Who has a slice: this thread alone, as far as can be told, or perhaps another."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, cast


def held_here(slot: Any) -> bool:
    """Whether every reference to ``slot`` is a variable of this thread, or in an object that is one."""
    found, frame = 0, cast("FrameType | None", sys._getframe(2))
    while frame is not None:
        names = dict(frame.f_locals)
        if type(frame.f_locals) is dict and frame.f_locals is not frame.f_globals:
            frame.f_locals.clear()  # a copy, which would keep what it names
        found += sum(value is slot for value in names.values())
        found += sum(
            inner is slot for value in names.values() for inner in getattr(value, "__dict__", {}).values()
        )
        del names
        frame = frame.f_back
    return sys.getrefcount(slot) <= found + 3
