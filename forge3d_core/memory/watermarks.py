"""Marks of a budget: callbacks for when host-visible use rises to a fraction of the limit."""

from __future__ import annotations

import logging
from collections.abc import Callable

import attrs

from forge3d_core.arguments import function, real
from forge3d_core.errors import UsageError
from forge3d_core.protocols import BudgetMetrics

_log = logging.getLogger(__name__)


@attrs.define(eq=False)
class Watermark:
    """One mark; ``above`` says on which side of it use was last seen."""

    fraction: float
    callback: Callable[[BudgetMetrics], None]
    above: bool = False


def watermark(fraction: float, callback: Callable[[BudgetMetrics], None]) -> Watermark:
    """Return a mark; raises :class:`UsageError` for what is no fraction in (0, 1], or no function."""
    function("a watermark's callback", callback)
    fraction = real("a watermark, a fraction of the limit,", fraction)
    if not 0 < fraction <= 1:
        raise UsageError(f"a watermark is a fraction of the limit in (0, 1], not {fraction!r}")
    return Watermark(fraction, callback)


def crossings(marks: list[Watermark], now: Callable[[], BudgetMetrics]) -> list[Watermark]:
    """Return the marks that use has risen to since the last time; the budget's lock is held."""
    crossed = []
    for mark in marks:
        figures = now()
        used = figures.host_visible_bytes
        above = used >= mark.fraction * figures.limit_bytes and used > 0
        if above is not mark.above:
            mark.above = above
            if above:
                crossed.append(mark)
    return crossed


def report(crossed: list[Watermark], now: Callable[[], BudgetMetrics]) -> None:
    """Call back, outside the lock; what a callback raises is logged, as its caller asked for memory."""
    for mark in crossed:
        try:
            mark.callback(now())
        except Exception:
            _log.exception("the callback of watermark %s failed", mark.fraction)
