"""A lane that is held while a test looks."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent import futures
from types import TracebackType
from typing import Any, Self, TypeVar

import attrs

from forge3d_conformance.subject import Hold
from forge3d_conformance.violation import ClauseViolation, Inconclusive, Tardy
from forge3d_conformance.waiting import PROMPT, in_thread, pauses

T = TypeVar("T")


@attrs.define(eq=False)
class Holding:
    """A lane that is held, through ``with``; ``observe`` is the way to look at anything meanwhile."""

    lane: str
    seconds: float
    _hold: Hold
    _gone: Callable[[], bool]  # whether the device was closed or lost, which ends a hold as well
    _since: float = attrs.field(factory=time.monotonic)
    _released: bool = False

    @property
    def held(self) -> bool:
        return self._hold.held

    @property
    def bounded(self) -> bool:
        """Whether the hold ends by itself only, as nothing can stop what keeps the lane."""
        return bool(getattr(self._hold, "bounded", False))

    @property
    def lapsed(self) -> bool:
        """Whether the hold has ended by itself, although it was to last until it is released."""
        return not (self.bounded or self._released or self.held or self._gone())

    def observe(self, look: Callable[..., T], *args: Any) -> T:
        """Return what ``look`` returns, provided that the lane was still held afterwards.

        Otherwise raise :class:`Inconclusive`, whatever ``look`` returned or raised; but what is late is
        late, held or not: :class:`Tardy` is passed on.
        """
        try:
            value = look(*args)
        except Tardy:
            raise
        except BaseException:
            self.still()
            raise
        self.still()
        return value

    def promptly(self, look: Callable[..., T], *args: Any) -> T:
        """Like ``observe``, for what must not wait: a violation when it comes back only after the hold.

        It gets ``PROMPT`` seconds, or half of what a bounded hold lasts.
        """
        started = time.monotonic()
        future = in_thread(look, *args)
        for pause in pauses(PROMPT):
            if futures.wait([future], pause).done:
                value = future.result()
                if self.held or time.monotonic() - started < self.seconds / 2:
                    self.still()
                    return value
                break
            if not self.held:
                break
        raise Tardy(f"a call that must not wait for the device did not return while {self.lane!r} was held")

    def still(self) -> None:
        """Raise :class:`Inconclusive` unless the lane is held even now; a violation when it has lapsed."""
        if self.lapsed:
            raise ClauseViolation(self._lapse())
        if not self.held:
            raise Inconclusive(f"lane {self.lane!r} could not be held long enough")

    def release(self) -> None:
        """Let go; a violation when there was nothing left to let go of, since nobody looked in between."""
        said = self._lapse() if self.lapsed else None
        self._let_go()
        if said:
            raise ClauseViolation(said)

    def _let_go(self) -> None:
        self._released = True
        self._hold.release()

    def _lapse(self) -> str:
        return (
            f"the hold of lane {self.lane!r} ended by itself, {time.monotonic() - self._since:.1f} s old: a "
            "call waited for its end that must not, or it never held; one that has to end says bounded = True"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.release()
        else:
            self._let_go()
