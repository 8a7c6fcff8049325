"""Who has a slice that a call would wait for: the calling thread alone, or perhaps another."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator, Mapping
from types import FrameType, FunctionType, ModuleType
from typing import Any

from forge3d_core.memory.variables import Variables, variables

OURS, CALLING_BACK = "forge3d-", "forge3d-watch-"
SEEN_BY_ALL = (type, ModuleType, FunctionType, FrameType)


def held_here(one: object) -> bool:
    """Whether it is certain that no thread but this one can get at ``one``, so that none can settle it.

    That is so where no other thread runs code of the program's, and where each reference to ``one`` is a
    variable of this thread's own calls, or in a container or object that is one. Any other reference (in
    a queue, a closure, a finished call) may be the way of another thread to it.

    For a call that is about to wait: it costs some 50 us. ``one`` is a variable of the caller's.
    """
    others = _others()
    if not others:
        return True
    calls = list(_calls(sys._getframe(2), others))
    try:
        counted = sum(call.references(one) for call in calls) + _items(one, calls)
        return sys.getrefcount(one) <= counted + 3  # the caller's variable, this argument, and that
    finally:
        for call in calls:
            call.forget()


def _others() -> list[FrameType]:
    """Return where the other threads are that may run code of the program's."""
    ours = {
        thread.ident
        for thread in threading.enumerate()
        if thread.name.startswith(OURS) and not thread.name.startswith(CALLING_BACK)
    }
    ours.add(threading.get_ident())
    return [frame for ident, frame in sys._current_frames().items() if ident not in ours]


def _calls(frame: FrameType, others: list[FrameType]) -> Iterator[Variables]:
    """Yield the variables of ``frame`` and of its callers, unless another thread runs code that sees them."""
    for call in variables(frame):
        if not (call.of_module and any(_sees(other, call.values) for other in others)):
            yield call


def _sees(frame: FrameType | None, variables: Mapping[str, Any]) -> bool:
    while frame is not None and frame.f_globals is not variables:
        frame = frame.f_back
    return frame is not None


def _items(one: object, calls: list[Variables]) -> int:
    """Return how often ``one`` is in containers or objects that are variables of this thread's alone."""
    found = {
        id(value): value
        for call in calls
        for value in call.values.values()
        if value is not one and not isinstance(value, SEEN_BY_ALL) and _inside(value, one)
    }
    count = 0
    while found:
        _, holder = found.popitem()
        own = sum(call.references(holder) for call in calls)
        if sys.getrefcount(holder) <= own + 2:  # this variable and the argument
            count += _inside(holder, one)
    return count


def _inside(holder: object, one: object) -> int:
    """Return how often ``holder`` refers to ``one`` itself, by its attributes or as an item."""
    within = gc.get_referents(holder)
    named = getattr(holder, "__dict__", None) if any(type(each) is dict for each in within) else None
    if type(named) is dict and any(each is named for each in within):
        within += named.values()
    return sum(each is one for each in within)
