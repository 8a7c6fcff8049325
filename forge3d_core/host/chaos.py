"""Faults, and the trace of what an adversary decided."""

from __future__ import annotations

import threading
from typing import Literal

import attrs

Act = Literal["submit", "start", "land", "refuse", "lose"]


@attrs.frozen
class Decision:
    """One line of a trace: ``number`` counts submissions, or allocations where one was refused."""

    act: Act
    lane: str
    number: int


@attrs.define(eq=False)
class Faults:
    """Counts submissions and allocations, and says which of them must fail. Any thread may ask."""

    lose_after: int | None = None
    _refused: set[int] = attrs.field(factory=set)
    _allocations: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def fail_allocation(self, nth: int) -> None:
        """Refuse the ``nth`` allocation from now; 1 is the next."""
        with self._lock:
            self._refused.add(self._allocations + nth)

    def allocation(self) -> tuple[int, bool]:
        """Count an allocation; return its number and whether it must fail."""
        with self._lock:
            self._allocations += 1
            refused = self._allocations in self._refused
            self._refused.discard(self._allocations)
            return self._allocations, refused
