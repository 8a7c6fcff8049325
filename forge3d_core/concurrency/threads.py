"""Threads of forge3d's own, and how one is started."""

from __future__ import annotations

import sys
import threading


class OwnThread(threading.Thread):
    """A thread of forge3d's or of a driver's: ``close`` may wait for it, so it waits for no ``close``."""


class _Calling(threading.local):
    """The calling thread: an attribute, where ``threading.current_thread`` is a call."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()


CALLING = _Calling()


def start_thread(thread: threading.Thread) -> None:
    """Start a thread. Raises ``RuntimeError`` where none can start, and an interrupt as the interrupt it is.

    One that comes inside :class:`threading.Condition`, where ``start`` waits, may come out as a RuntimeError
    over a lock that is not held, its context the interrupt. A refusal has a context too while the caller
    handles an error: that error.
    """
    handled = sys.exception()
    try:
        thread.start()
        return
    except RuntimeError as error:
        interrupt = error.__context__
        if interrupt is None or interrupt is handled:
            raise
    try:
        raise interrupt  # out here, where its own context is what the caller handles
    finally:
        del interrupt  # or it and this frame would keep each other, and with them the caller's
