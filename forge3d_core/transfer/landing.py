"""Large reads on their way to the caller: pieces leave the block while the device copies the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import attrs

from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.protocols import FencePoint
from forge3d_core.transfer.workers import Crew, Job


@attrs.frozen(eq=False)
class Piece:
    """Items ``start`` to ``stop`` along the first axis of a read; they are there once ``point`` is done."""

    start: int
    stop: int
    point: FencePoint


@attrs.define(eq=False)
class BulkLanding:
    """Moves the pieces of a read out of host-visible memory, by ``move``, from a start to a stop.

    Workers move what has come; the calling thread waits for the next piece, by ``wait``, which says whether
    to go on.
    """

    move: Callable[[int, int], None]
    pieces: Sequence[Piece]
    guard: CallGuard
    wait: Callable[[FencePoint], bool]
    _todo: deque[Piece] = attrs.field(init=False)
    _stopped: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._todo = deque(self.pieces)

    def run(self, crew: Crew, helpers: int) -> bool:
        """Move all pieces; False where ``wait`` said so. However it ends, no worker is at it afterwards."""
        crew.share(self._help, min(helpers, len(self.pieces) - 1), partial(self._lead_on, crew))
        while self._lead():  # what a worker had put back
            pass
        return not self._stopped

    def _lead_on(self, crew: Crew, job: Job) -> bool:
        """Lead, and rouse the workers: while this thread waited more may have come."""
        more = self._lead()
        crew.rouse(job)
        return more

    def _help(self) -> bool:
        """Move a piece that has come; False where there is none."""
        try:
            piece = self._todo.popleft()
        except IndexError:
            return False
        if not piece.point.done:
            self._todo.appendleft(piece)
            return False
        self._move(piece)
        return True

    def _lead(self) -> bool:
        """Move a piece, whatever has to be waited for; False where none is left, or ``wait`` said so."""
        try:
            piece = self._todo.popleft()
        except IndexError:
            return False
        if not self.wait(piece.point):
            self._todo.clear()
            self._stopped = True
            return False
        self._move(piece)
        return True

    def _move(self, piece: Piece) -> None:
        with self.guard.here():
            self.guard.check()
            self.move(piece.start, piece.stop)
