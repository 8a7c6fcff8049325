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
