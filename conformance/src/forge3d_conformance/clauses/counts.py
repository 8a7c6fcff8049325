"""What a process holds, counted by programs that look for leaks."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading

from forge3d_conformance.bench import Bench

COUNTED = ("Python threads", "native threads", "open files")
MEASURED = ("memory", "device memory")

PAUSE, STILL, MOST = 0.1, 3, 50
"""Seconds between two counts of :func:`at_rest`, how many must say the same, and after how many it ends."""

GRAIN = 1 << 20
"""Bytes of memory that count as a fall."""


def listed(folder: str) -> int:
    return len(os.listdir(folder)) if os.path.isdir(folder) else 0


def memory() -> int:
    """Return the resident bytes of this process, 0 where the platform does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def count(bench: Bench) -> dict[str, int]:
    """Return what the process holds once what is free has been given back."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what is free but kept for the next round is not left behind
    except (OSError, AttributeError, TypeError):
        pass  # another platform, another allocator
    return {
        "Python threads": threading.active_count(),
        "native threads": listed("/proc/self/task"),
        "open files": listed("/proc/self/fd"),
        "memory": memory(),
        "device memory": bench.memory_in_use(),
        "Python objects": sys.getallocatedblocks(),
    }


def settled(bench: Bench, first: dict[str, int]) -> dict[str, int]:
    """Return the counts once they are no more than at first; what ends by itself may take a moment."""
    pause = threading.Event()
    for _ in range(40):
        last = count(bench)
        if all(last[name] <= first[name] for name in COUNTED):
            break
        pause.wait(0.05)
    return last


def at_rest(bench: Bench) -> dict[str, int]:
    """Return the least counts once they fall no more; devices are opened and closed meanwhile.

    A device that was closed over unfinished work may be kept until its work has ended, and given back when
    another is opened or closed. How many are on their way is no leak, however dear each may be.
    """
    pause = threading.Event()
    least, still = count(bench), 0
    for _ in range(MOST):
        pause.wait(PAUSE)
        bench.open().close()
        bench.forget()
        now = count(bench)
        fell = any(now[name] < least[name] for name in COUNTED)
        fell |= any(now[name] < least[name] - GRAIN for name in MEASURED)
        least = {name: min(least[name], now[name]) for name in least}
        still = 0 if fell else still + 1
        if still == STILL:
            break
    return least
