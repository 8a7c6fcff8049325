"""The line of coroutines that wait for a block of a readback pool."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator

import attrs

from forge3d_core.concurrency.loops import Bell, bell

FIRST_LOOKS_SECONDS = 0.05
OTHERS_LOOK_SECONDS = 1.0

LOOKS_PER_SECOND = 500
"""How often those that are not the first look in all, about, in a long line."""

STILL_SECONDS = 0.5
"""A loop that takes so long to come to a coroutine that was called stands still."""


@attrs.define(eq=False)
class Place:
    """One coroutine's place in the line.

    The bell belongs to the coroutine's loop. ``called`` is when it was called, None since it looked, and
    belongs to the lock of the pool, like the line.
    """

    _line: Line
    _bell: Bell = attrs.field(factory=bell, init=False)
    called: float | None = attrs.field(default=None, init=False)

    def call(self) -> bool:
        """Have the coroutine look again; under the lock, from any thread. False once its loop has closed."""
        if self.called is None:
            self.called = time.monotonic()
        return self._bell.ring()

    async def wait(self, seconds: float) -> None:
        """Wait until called, for up to ``seconds``."""
        await self._bell.wait(seconds)
        with self._line.lock:
            self.called = None  # before the look: what changes from now on calls again


@attrs.define(eq=False)
class Line:
    """Places in the order of their coming. ``lock`` is the pool's, and reentrant.

    A change calls the first, and a place that is left calls the next: so each change wakes one coroutine,
    however many wait, and no call is lost on one that gave up. Whose loop stands still is passed over.
    """

    lock: threading.RLock
    places: OrderedDict[Place, None] = attrs.field(factory=OrderedDict, init=False)  # the first in O(1)

    @contextlib.contextmanager
    def place(self) -> Iterator[Place]:
        """Stand in the line for a ``with`` block."""
        place = Place(self)
        with self.lock:
            self.places[place] = None
        try:
            yield place
        finally:
            with self.lock:
                self.places.pop(place, None)
                self.call()

    def first(self, place: Place) -> bool:
        """Whether ``place`` is at the head of the line."""
        with self.lock:
            return next(iter(self.places), None) is place

    def look_seconds(self, *, first: bool) -> float:
        """Return how long a place waits at most before it looks by itself.

        The first looks for a lease or a handle that was dropped, and for a loss; the others look whether the
        loop of the first stands still. The longer the line the rarer each of them looks, or ten thousand
        would keep their loop busy with that alone.
        """
        return FIRST_LOOKS_SECONDS if first else OTHERS_LOOK_SECONDS + len(self.places) / LOOKS_PER_SECOND

    def stands_still(self) -> bool:
        """Whether the first was called a while ago and has not looked."""
        with self.lock:
            first = next(iter(self.places), None)
            called = first.called if first is not None else None
        return called is not None and time.monotonic() - called > STILL_SECONDS

    def call(self) -> None:
        """Call the first: something may have become free. Under the lock."""
        while (first := next(iter(self.places), None)) is not None and not first.call():
            del self.places[first]  # or it would keep its task, and what that holds

    def call_all(self) -> None:
        """Call all of them: the pool closes. Under the lock."""
        for place in self.places:
            place.call()
