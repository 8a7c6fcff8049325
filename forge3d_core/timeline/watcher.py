"""The watcher: the thread that calls back when a point is settled."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import threading
from typing import Protocol

import attrs

from forge3d_core.concurrency.threads import OwnThread, start_thread
from forge3d_core.errors import ForgeError, StateError
from forge3d_core.foreign import from_signal_handler
from forge3d_core.protocols import FencePoint
from forge3d_core.timeline.points import Settled

IDLE_SECONDS = 2.0
"""How long the thread stays without a callback to watch for."""

_log = logging.getLogger(__name__)


class Watched(Protocol):
    """The part of a timeline that its watcher needs."""

    @property
    def name(self) -> str: ...

    @property
    def last_known(self) -> int: ...

    @property
    def failure(self) -> Exception | None: ...

    def error_of(self, value: int) -> Exception | None: ...

    def wait(self, value: int, timeout: float | None = None) -> None: ...

    def meet(self, error: BaseException, call: str) -> None: ...


def _rung() -> threading.Lock:
    bell = threading.Lock()
    bell.acquire()
    return bell


@attrs.define(eq=False)
class Watcher:
    """Callbacks in order of value, and the thread that waits for the next like any other, and alone calls.

    So no callback runs under a lock of a thread that happened to poll. The thread starts with the first
    callback, and ends when it has had none for a while. ``_lock``, the timeline's, guards the callbacks.
    """

    _timeline: Watched
    _lock: threading.RLock
    _callbacks: list[tuple[int, int, FencePoint, Settled]] = attrs.field(factory=list, init=False)
    _order: itertools.count[int] = attrs.field(factory=itertools.count, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)
    _bell: threading.Lock = attrs.field(factory=_rung, init=False)  # released: there may be a callback

    def add(self, point: FencePoint, callback: Settled) -> None:
        """Call back when ``point`` is settled; the lock is held.

        Raises :class:`StateError` where no thread can start.
        """
        self._ensure_thread()
        with contextlib.suppress(RuntimeError):
            self._bell.release()  # first: the thread looks once it has the lock
        heapq.heappush(self._callbacks, (point.value, next(self._order), point, callback))

    def forget(self, callback: Settled) -> None:
        """Do not call ``callback`` any more. The lock is held."""
        rest = [entry for entry in self._callbacks if entry[-1] is not callback]
        heapq.heapify(rest)
        self._callbacks = rest

    def _ensure_thread(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        name = self._timeline.name
        thread = OwnThread(target=self._watch, name=f"forge3d-watch-{name}", daemon=True)
        try:
            start_thread(thread)
        except RuntimeError as error:
            raise StateError(
                f"lane {name!r}: no thread could be started that calls back ({error}); end some "
                "threads, or wait() for the point, which needs none"
            ) from error
        self._thread = thread

    def _watch(self) -> None:
        timeline = self._timeline
        while True:
            if self._call_back():
                continue
            if self._callbacks:
                try:  # not for the lowest that is wanted: a lower one may be yet to come
                    timeline.wait(timeline.last_known + 1, IDLE_SECONDS)
                except ForgeError:
                    pass  # a failure has made the callbacks due; else perhaps none is left
                except BaseException as error:  # a driver that calls sys.exit(): here no program means it
                    timeline.meet(error, "wait")
            elif not self._bell.acquire(timeout=IDLE_SECONDS):
                with self._lock:
                    if not self._callbacks:
                        self._thread = None
                        return

    def _call_back(self) -> bool:
        """Call the first callback if it is due; whether it was."""
        timeline = self._timeline
        with self._lock:
            if not self._callbacks or (
                self._callbacks[0][0] > timeline.last_known and timeline.failure is None
            ):
                return False
            *_, point, callback = heapq.heappop(self._callbacks)
            error = timeline.error_of(point.value)
        call_back(point, callback, error)
        return True


def call_back(point: FencePoint, callback: Settled, error: Exception | None) -> None:
    """Call back, now; what the callback raises is logged, as it is not the fault of the thread that calls."""
    try:
        callback(point, error)
    except BaseException as raised:  # SystemExit included: other callbacks still have to hear
        if from_signal_handler(raised):
            raise
        _log.exception("a callback of lane %r, value %d, failed", point.timeline.name, point.value)
