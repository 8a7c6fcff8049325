"""Processor time: how much of it this process uses, beside a device that is at work in it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from forge3d_core.protocols import Device

TASKS = Path("/proc/self/task")

Clock = Callable[[], dict[int, float]]
"""Tells the processor seconds of each part of the process that counts, by a number of its own."""


def whole_process() -> dict[int, float]:
    """Tell what the process has used, with the threads that have ended."""
    return {0: time.process_time()}


def clock_beside(device: Device) -> Clock | None:
    """Return the clock of this process without the device itself; ask before anybody waits for it.

    A CPU device works in this process, on the native threads that are there now. None where the platform
    does not tell threads apart.
    """
    if device.info.kind != "cpu":
        return whole_process
    itself = _threads().keys() - {thread.native_id for thread in threading.enumerate()}
    if not _threads():
        return None
    return lambda: {thread: used for thread, used in _threads().items() if thread not in itself}


def share(clock: Clock, seconds: float) -> float:
    """Return how many cores' worth of time what ``clock`` counts uses over ``seconds``."""
    started, before = time.monotonic(), clock()
    threading.Event().wait(seconds)
    used = sum(now - before.get(part, 0.0) for part, now in clock().items())
    return used / (time.monotonic() - started)


def least_share(clock: Clock, seconds: float) -> float:
    """Return the smaller of two shares, one after the other.

    Who spins does so all the time; a machine that takes its processor away for a moment, and counts that as
    used, seldom does so twice.
    """
    return min(share(clock, seconds) for _ in range(2))


def _threads() -> dict[int, float]:
    """Return the processor seconds of each thread by its native id; empty where nobody tells."""
    found = {}
    for task in os.listdir(TASKS) if TASKS.is_dir() else ():
        try:
            found[int(task)] = int((TASKS / task / "schedstat").read_text().split()[0]) / 1e9
        except (OSError, ValueError, IndexError):
            continue  # it has ended meanwhile, or the kernel keeps no such figures
    return found
