"""Processor time: how much of it this process uses, and which of its threads are a CPU device at work."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import attrs

from forge3d_core.protocols import Device

TASKS = Path("/proc/self/task")
BUSY = 0.02
"""The share of a core from which on a thread is at work."""


@attrs.frozen
class Reading:
    """What the clocks of the process and of its threads say at one moment, in seconds."""

    wall: float
    process: float
    threads: Mapping[int, float]  # by native id; empty where the platform keeps no such clocks

    @classmethod
    def now(cls) -> Reading:
        return cls(time.monotonic(), time.process_time(), _threads())

    def share_since(self, earlier: Reading, but: Collection[int] = ()) -> float:
        """Return how many cores' worth of time the process used since, without the threads in ``but``."""
        left_out = sum(self._of(thread, earlier) for thread in but)
        return (self.process - earlier.process - left_out) / (self.wall - earlier.wall)

    def at_work_since(self, earlier: Reading) -> frozenset[int]:
        """Return the threads that have used a visible share of a core since."""
        least = BUSY * (self.wall - earlier.wall)
        return frozenset(thread for thread in self.threads if self._of(thread, earlier) > least)

    def _of(self, thread: int, earlier: Reading) -> float:
        return self.threads.get(thread, 0.0) - earlier.threads.get(thread, 0.0)


def share(seconds: float, but: Collection[int] = ()) -> float:
    """Return the share of a core that the process, without the threads in ``but``, uses over ``seconds``."""
    before = Reading.now()
    threading.Event().wait(seconds)
    return Reading.now().share_since(before, but)


def own_threads(device: Device, seconds: float) -> frozenset[int] | None:
    """Return the native threads that are the device itself at work; ask before anybody waits.

    Only a CPU device has any. None where it may have some and the platform does not tell them apart.
    """
    if device.info.kind != "cpu":
        return frozenset()
    before = Reading.now()
    if not before.threads:
        return None
    threading.Event().wait(seconds)
    return Reading.now().at_work_since(before) - {thread.native_id for thread in threading.enumerate()}


def _threads() -> dict[int, float]:
    found = {}
    for task in os.listdir(TASKS) if TASKS.is_dir() else ():
        try:
            found[int(task)] = int((TASKS / task / "schedstat").read_text().split()[0]) / 1e9
        except (OSError, ValueError, IndexError):
            continue  # it has ended meanwhile, or the kernel keeps no such figures
    return found
