"""Waiting by asking again."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable

SPIN_SECONDS = 30e-6
MIN_WAITED = 320e-6  # sleeps are as if this had been waited already
LONGEST_SLEEP = 5e-3

PRECISE_NANOSECONDS = 1000
"""How late the system may end a sleep meanwhile. Linux's default of 50 µs is more than most waits take."""

_PR_SET_TIMERSLACK, _PR_GET_TIMERSLACK = 29, 30  # linux/prctl.h


def _timer_slack(nanoseconds: int) -> int:
    """Set how late sleeps of this thread may end; return what it was, 0 where that is not known."""
    if sys.platform != "linux":
        return 0
    was = int(_prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0))
    return max(was, 0) if _prctl(_PR_SET_TIMERSLACK, nanoseconds, 0, 0, 0) == 0 else 0


if sys.platform == "linux":
    _prctl = ctypes.PyDLL(None).prctl  # keeps the interpreter's lock: it takes less time than giving it up
    _prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


def poll_until(query: Callable[[], bool], seconds: float, *, precision: int = 16) -> bool:
    """Ask ``query`` until it is true or ``seconds`` have passed: a driver's ``wait`` by polling.

    Spins for a moment, since most waits are short, then sleeps one part in ``precision`` of the time waited
    so far: the answer is at most that much late and a long wait costs next to nothing. A higher precision
    suits a query that costs less than a sleep.
    """
    start = time.perf_counter()
    while not query():
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return query()
        if elapsed > SPIN_SECONDS:
            return _sleep_until(query, start, seconds, precision)
    return True


def _sleep_until(query: Callable[[], bool], start: float, seconds: float, precision: int) -> bool:
    slack = _timer_slack(PRECISE_NANOSECONDS)
    try:
        while not query():
            elapsed = time.perf_counter() - start
            if elapsed >= seconds:
                return query()
            pause = min(max(elapsed, MIN_WAITED) / precision, LONGEST_SLEEP)
            time.sleep(min(pause, seconds - elapsed))
        return True
    finally:
        if slack:
            _timer_slack(slack)
