"""How many reads a pool lets hold a block where that follows the throughput."""

from __future__ import annotations

from collections import deque

import attrs

from forge3d_core.protocols import ConcurrencyMove, MoveReason

MIN_READS = 16
"""What a window measures at least, and four times what is allowed in flight: ends weigh little."""

MIN_SECONDS = 0.01

GAIN = 0.05
"""More in flight must be so much faster to stay: each costs a block of memory, and adds to the latency."""

LOSS = 0.02
"""Fewer may be so much slower than before the first step down, all steps together."""

CHANGE = 0.25
"""So much faster or slower without a move: the load is another, and is tried anew."""

MAX_REST = 64
"""Windows between two trials at most: each that leads nowhere doubles them."""

MAX_MOVES = 32
"""How many moves are remembered."""


@attrs.define
class Window:
    """What is measured between two decisions; ``skip`` reads land before it begins."""

    skip: int
    waits: int
    begun: float | None = None
    reads: int = 0
    nbytes: int = 0


@attrs.define
class Concurrency:
    """How many reads may hold a block, from ``lowest`` to ``highest``: a climb of the throughput.

    It has no clock and does nothing: it is told of each read that lands, and ``limit`` is what it says.
    A step up stays if the throughput rises by ``GAIN``, and one down if it does not fall by ``LOSS``; steps
    that do not stay are taken back, and the next trial comes later and the other way. Nothing moves on a
    window in which no read waited for a block, which tells nothing of what more blocks would bring.

    Not thread-safe: the pool's lock is held.
    """

    lowest: int
    highest: int
    limit: int = attrs.field(init=False)
    moves: deque[ConcurrencyMove] = attrs.field(init=False, factory=lambda: deque(maxlen=MAX_MOVES))
    _window: Window = attrs.field(init=False)
    _base: float = 0.0  # throughput that a trial is compared with
    _before: int = 0  # what was allowed before the trial under way; 0: none is
    _up: bool = True  # which way the next trial goes
    _rest: int = 0  # windows until then
    _rested: int = 1  # how many they were the last time

    def __attrs_post_init__(self) -> None:
        self.limit = min(max(2, self.lowest), self.highest)
        self._window = Window(0, 0)

    def landed(self, now: float, nbytes: int, waits: int) -> bool:
        """Count a read that landed at ``now``; ``waits`` is how many had to wait so far. Whether it moved."""
        window = self._window
        if window.skip or window.begun is None:
            window.skip = max(window.skip - 1, 0)
            if not window.skip:
                window.begun, window.waits = now, waits
            return False
        window.reads += 1
        window.nbytes += nbytes
        elapsed = now - window.begun
        if window.reads < max(MIN_READS, 4 * self.limit) or elapsed < MIN_SECONDS:
            return False
        before = self.limit
        if waits > window.waits:
            self._decide(now, window.nbytes / elapsed)
        moved = self.limit != before
        self._window = Window(self.limit if moved else 0, waits, None if moved else now)
        return moved

    def _decide(self, now: float, rate: float) -> None:
        if not self._before:
            self._settled(now, rate)
        elif self.limit > self._before:
            if rate >= (1 + GAIN) * self._base:
                self._base = rate
                self._try(now, rate, "rose")
            else:
                self._take_back(now, rate, "did-not-rise")
        elif rate >= (1 - LOSS) * self._base:
            self._try(now, rate, "did-not-fall")
        else:
            self._take_back(now, rate, "fell")

    def _settled(self, now: float, rate: float) -> None:
        """See whether it is time for a trial."""
        changed = self._base and abs(rate / self._base - 1) > CHANGE
        self._rest -= 1
        if changed or self._rest < 0:
            if changed:
                self._rested = 1
                self._up = True
            self._base = rate
            self._try(now, rate, "load-changed" if changed else "trial")

    def _try(self, now: float, rate: float, why: MoveReason) -> None:
        """Take a step the way that is being tried, or rest where there is none left."""
        if not self._before and self.limit == (self.highest if self._up else self.lowest):
            self._up = not self._up
        step = max(1, self.limit // 4)
        wanted = min(self.limit + step, self.highest) if self._up else max(self.limit - step, self.lowest)
        if wanted == self.limit:
            self._base = rate
            self._settle()
        else:
            self._before = self.limit
            self._move(now, rate, wanted, why)

    def _take_back(self, now: float, rate: float, why: MoveReason) -> None:
        self._move(now, rate, self._before, why)
        self._settle()

    def _settle(self) -> None:
        self._before, self._up = 0, not self._up
        self._rest, self._rested = self._rested, min(2 * self._rested, MAX_REST)

    def _move(self, now: float, rate: float, to: int, why: MoveReason) -> None:
        self.moves.append(ConcurrencyMove(now, self.limit, to, rate, why))
        self.limit = to
