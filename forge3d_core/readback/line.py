"""The line of coroutines that wait for a block of a readback pool."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import attrs

from forge3d_core.concurrency.loops import Bell, bell

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
    places: dict[Place, None] = attrs.field(factory=dict, init=False)

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

    def stands_still(self) -> bool:
        """Whether the first was called a while ago and has not looked."""
        with self.lock:
            first = next(iter(self.places), None)
            called = first.called if first is not None else None
        return called is not None and time.monotonic() - called > STILL_SECONDS

    def call(self) -> None:
        """Call the first: something may have become free. Under the lock."""
        for place in tuple(self.places):
            if place.call():
                return
            del self.places[place]  # or it would keep its task, and what that holds

    def call_all(self) -> None:
        """Call all of them: the pool closes. Under the lock."""
        for place in self.places:
            place.call()
