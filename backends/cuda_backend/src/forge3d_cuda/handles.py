"""Native objects that destroy themselves: streams, events, graphs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable


class Handle:
    """A native object, destroyed with the last object that keeps it.

    So no thread ever asks for one that is gone. CUDA lets work that uses it finish first.
    """

    __slots__ = ("_destroy", "_owner", "value")

    def __init__(self, value: int, destroy: Callable[[int], object]) -> None:
        self._owner = os.getpid()
        self._destroy = destroy
        self.value = value

    def __del__(self) -> None:
        if os.getpid() == self._owner:  # a forked child has no device behind its copy
            with contextlib.suppress(Exception):  # lost, or the process ends, and all goes with it
                self._destroy(self.value)
