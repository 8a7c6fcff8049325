"""Waiting by asking again."""

from __future__ import annotations

import time
from collections.abc import Callable

SPIN_SECONDS = 30e-6
SHORTEST_SLEEP = 20e-6
LONGEST_SLEEP = 5e-3


def poll_until(query: Callable[[], bool], seconds: float) -> bool:
    """Ask ``query`` until it is true or ``seconds`` have passed: a driver's ``wait`` by polling.

    Spins for a moment, since most waits are short, then sleeps a sixteenth of the time waited so far:
    the answer is at most that much late and a long wait costs next to nothing.
    """
    start = time.perf_counter()
    while not query():
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return query()
        if elapsed > SPIN_SECONDS:
            pause = min(max(elapsed / 16, SHORTEST_SLEEP), LONGEST_SLEEP)
            time.sleep(min(pause, seconds - elapsed))
    return True
