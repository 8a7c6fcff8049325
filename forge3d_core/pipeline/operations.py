"""The book of a coordinator: which operations are in flight, which have ended, and what they depend on."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from operator import index
from typing import Literal

import attrs

from forge3d_core.arguments import shown
from forge3d_core.errors import UsageError, copy_exception
from forge3d_core.presentation import line
from forge3d_core.protocols import FencePoint, ReadbackHandle

OperationType = Literal["upload", "compute", "download"]


@attrs.frozen
class Completion:
    """One operation that has ended; ``error`` is None, or what made it fail."""

    op_id: int
    op_type: OperationType
    error: Exception | None = None

    def __repr__(self) -> str:
        state = "done" if self.error is None else f"failed: {type(self.error).__name__}"
        return line(f"{self.op_type} {self.op_id}", state)


@attrs.define(eq=False)
class Operation:
    """One operation in flight. ``handle`` is a download's, whose bytes have to land as well."""

    op_id: int
    op_type: OperationType
    point: FencePoint
    handle: ReadbackHandle | None = None


@attrs.define(eq=False)
class Book:
    """Operations by number, from 1. Pure state; the coordinator's lock guards it.

    A number that was given out and is not in flight belongs to one that has ended. ``most_kept`` ended ones
    wait to be polled; what goes beyond that is counted in ``unpolled`` and forgotten, the oldest first.
    """

    most_kept: int
    last: int = 0
    unpolled: int = 0
    _live: dict[int, Operation] = attrs.field(factory=dict)
    _lanes: dict[str, list[tuple[int, int]]] = attrs.field(factory=dict)  # heaps of (value, number)
    _ended: deque[Completion] = attrs.field(factory=deque)
    _failures: dict[int, Exception] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self._live)

    def add(self, op_type: OperationType, point: FencePoint, handle: ReadbackHandle | None = None) -> int:
        """Take an operation in and return its number."""
        self.last = number = self.last + 1
        self._live[number] = Operation(number, op_type, point, handle)
        heapq.heappush(self._lanes.setdefault(point.timeline.name, []), (point.value, number))
        return number

    def points(self, deps: Iterable[int]) -> Sequence[FencePoint]:
        """Return the points of those of ``deps`` that are in flight.

        Raises :class:`UsageError` for an operation that there is not, and its failure for one that failed.
        """
        found = []
        for number in deps:
            operation = self.find(number)
            if operation is not None:
                found.append(operation.point)
        return found

    def find(self, number: int) -> Operation | None:
        """Return an operation in flight, None for one that has ended well; raises as :meth:`points` does."""
        try:
            known = 1 <= index(number) <= self.last and not isinstance(number, bool)
        except TypeError:
            known = False
        if not known:
            raise UsageError(
                f"no operation {shown(number)}; {self.last} have been queued here, and are numbered from 1"
            )
        if (failure := self._failures.get(number)) is not None:
            raise copy_exception(failure)
        return self._live.get(number)

    def lanes(self) -> list[Operation]:
        """Return the operation of each lane that ends next."""
        return [self._live[heap[0][1]] for heap in self._lanes.values() if heap]

    def newest(self) -> list[Operation]:
        """Return all in flight, in the order of their numbers."""
        return list(self._live.values())

    def take(self, lane: str, completed: int) -> list[Operation]:
        """Take what is complete on ``lane``, the lowest value first, for the caller to :meth:`end`."""
        heap, taken = self._lanes.get(lane, []), []
        while heap and heap[0][0] <= completed:
            taken.append(self._live[heapq.heappop(heap)[1]])
        return taken

    def end(self, operation: Operation, error: Exception | None = None) -> None:
        """Take an operation out, and note its end for poll and for those that come to depend on it."""
        del self._live[operation.op_id]
        if error is not None:
            self._failures[operation.op_id] = error
        self._ended.append(Completion(operation.op_id, operation.op_type, error))
        if len(self._ended) > self.most_kept:
            self._ended.popleft()
            self.unpolled += 1

    def drain(self) -> list[Completion]:
        """Take what has ended since the last time."""
        ended = list(self._ended)
        self._ended.clear()
        return ended
