"""A signal handler that raises, at a chosen moment of a call: each failure can be played again."""

from __future__ import annotations

import _weakrefset
import gc
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import attrs

from forge3d_conformance.violation import ClauseViolation, Inconclusive

WEAK_REFERENCES = (weakref.__file__, _weakrefset.__file__)
"""Whose code the collector calls back."""

SPARED = ("wgpu", "cffi", "cupy", "cupyx", "cupy_backends", "threading")
"""Python code of others, theirs to mend: GPU libraries, which an interrupt may leave with half a native
object, and the interpreter's ``threading``, whose ``Condition`` it may leave with its lock held."""


class Alarm(Exception):
    """What a handler raises that is for timeouts, say; no error of the call that it interrupts."""


@attrs.define
class Interrupter:
    """Has a handler of SIGINT raise at the ``number``-th moment of a call, once.

    CPython runs the handlers of signals when a function is entered and when a call into C has returned,
    wherever that is in the code below. A profiler is told of both, and what it raises comes up just there.
    (Handlers run when a loop jumps back, too.) Not inside ``__del__`` and the callbacks of weak references:
    there Python passes over what is raised, and over the rest of the callback, which no backend can help.
    Nor inside a GPU library's own binding or ``threading``, before or after a call of which it may come.
    """

    number: float
    error: type[BaseException] = KeyboardInterrupt
    seen: int = 0
    place: str = ""

    def run(self, call: Callable[[], object]) -> None:
        """Call, and pass over what the handler raised; raise anything else."""
        if threading.current_thread() is not threading.main_thread():
            raise Inconclusive("signals come to the main thread, and this is another")
        before, profiler = signal.signal(signal.SIGINT, self._handle), sys.getprofile()
        sys.setprofile(self._chance)
        try:
            call()
        except BaseException as error:
            if not self._is_ours(error):
                raise
        finally:
            sys.setprofile(profiler)
            signal.signal(signal.SIGINT, before)

    def _chance(self, frame: FrameType, event: str, _argument: Any) -> None:
        if self.place or event not in ("call", "c_return") or frame.f_code.co_filename == __file__:
            return
        if frame.f_globals.get("__name__", "").partition(".")[0] in SPARED:
            return
        self.seen += 1
        if self.seen >= self.number and not _in_finalizer(frame):
            self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
            signal.raise_signal(signal.SIGINT)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        raise self.error

    def _is_ours(self, error: BaseException | None) -> bool:
        """Whether the handler raised it, or it took the place of what the handler raised."""
        while error is not None and not isinstance(error, self.error):
            if isinstance(error, ClauseViolation):
                return False
            error = error.__cause__ or error.__context__
        return error is not None


@contextmanager
def unraisable_dropped() -> Iterator[None]:
    """Have nothing kept of what Python passes over: pytest would keep the frames, and half-made objects."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _unraisable: None
    try:
        yield
    finally:
        gc.collect()
        sys.unraisablehook = before


def _in_finalizer(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code.co_filename in WEAK_REFERENCES:
            return True
        frame = frame.f_back
    return False
