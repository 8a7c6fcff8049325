"""Who is asked for memory before a budget refuses: caches that give back what they only keep for later."""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Callable, Iterable

from forge3d_core.arguments import integer
from forge3d_core.foreign import from_signal_handler
from forge3d_core.units import format_bytes

_log = logging.getLogger(__name__)

Reclaimer = Callable[[int], int]


class Caches:
    """Reclaimers of device memory: asked when the driver has no more, as the budget puts no limit on that.

    Thread-safety: any thread; a list takes and loses an item in one step.
    """

    def __init__(self) -> None:
        self._reclaimers: list[Reclaimer] = []

    def add(self, reclaim: Reclaimer) -> Callable[[], None]:
        """Register ``reclaim(nbytes_wanted) -> nbytes_given_back``; return a function that removes it."""
        self._reclaimers.append(reclaim)

        def forget() -> None:
            with contextlib.suppress(ValueError):
                self._reclaimers.remove(reclaim)

        return forget

    def add_weakly(self, reclaim: Reclaimer) -> Callable[[], None]:
        """Register a method whose object is not kept alive by it, as :meth:`add` does."""
        method = weakref.WeakMethod(reclaim)

        def ask_if_alive(nbytes: int) -> int:
            alive = method()
            return 0 if alive is None else alive(nbytes)

        return self.add(ask_if_alive)

    def give_back(self, nbytes: int) -> int:
        """Ask for ``nbytes``; return how many were given back."""
        return ask(list(self._reclaimers), nbytes)


def ask(reclaimers: Iterable[Reclaimer], wanted: int) -> int:
    """Ask one after the other for what is still wanted of ``wanted`` bytes; return how many were given back.

    What a reclaimer raises is logged, and the next is asked.
    """
    given = 0
    for reclaim in reclaimers:
        if given >= wanted:
            break
        try:
            given += integer("what a reclaimer gave back", reclaim(wanted - given))
        except Exception as error:
            if from_signal_handler(error):
                raise
            _log.exception("a reclaimer that was asked for %s failed", format_bytes(wanted - given))
    return given


def when_short(budget: object, reclaim: Reclaimer) -> Callable[[], None]:
    """Have a method asked when device memory is short, where the budget asks; return what ends that."""
    caches: Caches | None = getattr(budget, "device_caches", None)
    return (lambda: None) if caches is None else caches.add_weakly(reclaim)
