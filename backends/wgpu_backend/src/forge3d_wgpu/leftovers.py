"""Devices that were closed while they worked, until their work has ended.

To release a busy device waits for its work, however long that takes, and a close must not. So the device
stays behind, and whoever opens or closes another one looks whether it has come to its end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import attrs


@attrs.frozen(eq=False)
class Leftover:
    """``release`` gives the device back; it is called once, when ``busy`` has said no."""

    busy: Callable[[], bool]
    release: Callable[[], None]
    process: int = attrs.field(factory=os.getpid)


_left: list[Leftover] = []
_lock = threading.Lock()


def leave(busy: Callable[[], bool], release: Callable[[], None]) -> None:
    """Keep a device until it is no longer busy. Any thread."""
    with _lock:
        _left.append(Leftover(busy, release))


def clear_up() -> None:
    """Give back the devices whose work has ended; waits for none. Any thread.

    A forked child keeps its hands off the devices of its parent.
    """
    if not _left or not _lock.acquire(blocking=False):  # who holds it is doing this
        return
    try:
        here = os.getpid()
        ended = [one for one in _left if one.process == here and not one.busy()]
        _left[:] = [one for one in _left if one not in ended]
    finally:
        _lock.release()
    for one in ended:
        one.release()
