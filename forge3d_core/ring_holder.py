"""Who has a slice that a call would wait for: the calling thread alone, or perhaps another."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import attrs

OURS, CALLING_BACK = "forge3d-", "forge3d-watch-"
CONTAINERS = (list, tuple, set, dict)


@attrs.frozen
class _Variables:
    """The variables of one call of this thread; each is ``copies`` references to what it names."""

    values: Mapping[str, Any]
    copies: int
    shared: frozenset[str]  # with closures, which another thread may call

    def references(self, one: object) -> int:
        same = sum(value is one for name, value in self.values.items() if name not in self.shared)
        return self.copies * same


def held_here(one: object) -> bool:
    """Whether it is certain that no thread but this one can get at ``one``, so that none can settle it.

    That is so where no other thread runs code of the program's, and where each reference to ``one`` is a
    variable of this thread's own calls, or an item of a list, tuple, set or dict that is. Any other
    reference (a queue, an attribute, a closure, a finished call) may be the way of another thread to it.

    For a call that is about to wait: it costs some 50 us. ``one`` is a variable of the caller's.
    """
    others = _others()
    if not others:
        return True
    calls = list(_calls(sys._getframe(2), others))
    counted = sum(call.references(one) for call in calls) + _items(one, calls)
    return sys.getrefcount(one) <= counted + 3  # the caller's variable, this argument, and that


def _others() -> list[FrameType]:
    """Return where the other threads are that may run code of the program's."""
    ours = {
        thread.ident
        for thread in threading.enumerate()
        if thread.name.startswith(OURS) and not thread.name.startswith(CALLING_BACK)
    }
    ours.add(threading.get_ident())
    return [frame for ident, frame in sys._current_frames().items() if ident not in ours]


def _calls(frame: FrameType | None, others: list[FrameType]) -> Iterator[_Variables]:
    """Yield the variables of ``frame`` and of its callers, unless another thread runs code that sees them."""
    while frame is not None:
        code, values = frame.f_code, frame.f_locals
        if values is not frame.f_globals:
            # Of a function this is a copy, which refers once more, up to Python 3.12; a class body's is not.
            copies = 2 if code.co_flags & inspect.CO_OPTIMIZED and type(values) is dict else 1
            yield _Variables(values, copies, frozenset((*code.co_cellvars, *code.co_freevars)))
        elif not any(_sees(other, values) for other in others):
            yield _Variables(values, 1, frozenset())
        frame = frame.f_back


def _sees(frame: FrameType | None, variables: Mapping[str, Any]) -> bool:
    while frame is not None and frame.f_globals is not variables:
        frame = frame.f_back
    return frame is not None


def _items(one: object, calls: list[_Variables]) -> int:
    """Return how often containers have ``one`` as an item that are this thread's own variables themselves."""
    count = 0
    found = {
        id(value): value
        for call in calls
        for value in call.values.values()
        if type(value) in CONTAINERS and any(item is one for item in _inside(value))
    }
    while found:
        _, container = found.popitem()
        own = sum(call.references(container) for call in calls)
        if sys.getrefcount(container) <= own + 2:  # this variable and the argument
            count += sum(item is one for item in _inside(container))
    return count


def _inside(container: Any) -> list[Any]:
    return list(container.values() if isinstance(container, dict) else container)
