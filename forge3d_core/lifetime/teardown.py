"""The end of a device: every part of it, whatever the others raise, and not on the collector's thread."""

from __future__ import annotations

import _thread
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

import attrs

from forge3d_core.concurrency.threads import OwnThread
from forge3d_core.deadline import Deadline

LOOK_SECONDS = 0.002
"""How often a thread that waits for another's closing looks whether it is over."""

PATIENCE = 30.0
"""How long a close waits at most for that of another thread, besides what that gives work to end."""

_log = logging.getLogger(__name__)


@attrs.define(eq=False)
class Turn:
    """Lets one thread close at a time; the others wait until it has, and then find it done.

    Neither the thread that closes, which comes here again from a callback or a finalizer, nor a thread of
    ours, which the closing may wait for, is kept waiting.

    Thread-safety: any thread. A wait is for ``patience`` seconds at most: the garbage collector may have
    called a finalizer of the program's that closes, on a thread which holds a lock that the closing needs.
    """

    patience: float = PATIENCE
    _closing: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _thread: int | None = attrs.field(default=None, init=False)  # the one that closes, or closed last

    def run(self, close: Callable[[], None]) -> None:
        """Call ``close``, once no other thread does."""
        me = threading.get_ident()
        if self._closing.locked():
            if self._thread == me or isinstance(threading.current_thread(), OwnThread):
                return
            deadline = Deadline.after(self.patience)
            while self._closing.locked():
                if not deadline.left():
                    return
                time.sleep(LOOK_SECONDS)
        with self._closing:  # C code: an interrupt comes before it is taken or once the block is entered
            self._thread = me
            close()


@attrs.define(eq=False)
class Teardown:
    """Steps that are each taken once, in order, whatever another raises.

    Thread-safety: any thread; while one takes the steps, others wait for it. An interrupt between two steps
    leaves the rest to the next call.
    """

    _steps: deque[Callable[[], object]] = attrs.field(factory=deque)
    _patience: float = PATIENCE
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    _turn: Turn = attrs.field(
        init=False, default=attrs.Factory(lambda self: Turn(self._patience), takes_self=True)
    )

    @property
    def over(self) -> bool:
        """Whether every step is taken, or being taken."""
        return not self._steps

    def run(self) -> None:
        """Take the steps that are left, then raise the first error that one of them met."""
        self._turn.run(self._take)

    def _take(self) -> None:
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
    """Start a thread that :mod:`threading` knows: a close asks which thread it is on."""
    threading.Thread(target=_close, args=(close, name), name="forge3d-close", daemon=True).start()


def _close(close: Callable[[], None], name: str) -> None:
    try:
        close()
    except Exception:  # there is no caller to tell
        _log.exception("closing %s, which was dropped, failed", name)
