"""The end of a device: every part of it, whatever the others raise, and not on the collector's thread."""

from __future__ import annotations

import _thread
import logging
import threading
from collections import deque
from collections.abc import Callable

import attrs

_log = logging.getLogger(__name__)


@attrs.define(eq=False)
class Ending:
    """Steps that are each taken once, in order, whatever another raises.

    Thread-safety: any thread; while one takes the steps, others find nothing left to do. An interrupt
    between two steps leaves the rest to the next call.
    """

    _steps: deque[Callable[[], object]] = attrs.field(factory=deque)
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)

    @property
    def over(self) -> bool:
        """Whether no step is left that nobody is taking."""
        return not self._steps

    def run(self) -> None:
        """Take the steps that are left, then raise the first error that one of them met."""
        first: BaseException | None = None
        mine: deque[Callable[[], object]] = deque()
        try:
            with self._lock:
                mine, self._steps = self._steps, mine
            while mine:
                try:
                    step = mine[0]
                    del mine[0]  # not popleft: an interrupt after that call would lose the step
                    step()
                except BaseException as error:
                    first = error if first is None else first
            if first is not None:
                raise first
        finally:
            first = None  # it has this frame in its traceback, and would keep both
            if mine:
                self._steps = mine


def close_elsewhere(close: Callable[[], None], name: str) -> bool:
    """Close what the garbage collector found, on another thread; False where none can start.

    The collector runs on any thread, under whatever locks that thread holds, so nothing may be waited for
    here: not for work, and not for the locks that ``threading.Thread`` takes when it starts.
    """
    try:
        _thread.start_new_thread(_start, (close, name))
    except RuntimeError:
        return False
    return True


def _start(close: Callable[[], None], name: str) -> None:
    """Start a thread that :mod:`threading` knows, for whoever asks during the closing which one it is on."""
    threading.Thread(target=_close, args=(close, name), name="forge3d-close", daemon=True).start()


def _close(close: Callable[[], None], name: str) -> None:
    try:
        close()
    except Exception:  # there is no caller to tell
        _log.exception("closing %s, which was dropped, failed", name)
