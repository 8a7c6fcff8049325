"""Waiting for the points of any backend: for one as a coroutine, for all, for the first."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable

from forge3d_core import protocols
from forge3d_core.arguments import sequence, shown
from forge3d_core.concurrency.loops import outcome
from forge3d_core.deadline import Deadline
from forge3d_core.errors import FenceTimeout, UsageError, WrongType, copy_exception

Settled = Callable[[protocols.FencePoint, Exception | None], None]


async def settled(point: protocols.FencePoint) -> None:
    """Wait for a point under asyncio or trio; works with any backend's point."""
    if not point.done:
        await wait_callback(point.on_done, lambda wake: forget(point, wake))


async def wait_callback(tell: Callable[[Settled], None], withdraw: Callable[[Settled], None]) -> None:
    """Wait until what ``tell`` was given is called; ``withdraw`` it if the wait is given up."""
    awaited = outcome()

    def wake(_point: protocols.FencePoint, error: Exception | None) -> None:
        awaited.settle(error)

    try:
        tell(wake)
        await awaited.over()
    except BaseException:
        withdraw(wake)
        raise


def known(point: protocols.FencePoint) -> bool:
    """Whether a point is known to be complete, without asking the driver, where its timeline can tell."""
    last_known = getattr(point.timeline, "last_known", None)
    return last_known is not None and last_known >= point.value


def wait_all(points: Iterable[protocols.FencePoint], timeout: float | None = None) -> None:
    """Wait until every point is complete. Raises as a single wait does; ``timeout`` covers them all."""
    deadline = Deadline.after(timeout)
    for point in _points("wait_all", points):
        point.wait(deadline.timeout)


def wait_any(points: Iterable[protocols.FencePoint], timeout: float | None = None) -> protocols.FencePoint:
    """Wait until some point is complete and return it. The first to be settled decides: its failure raises.

    Raises :class:`FenceTimeout` naming the lanes, :class:`UsageError` without points.
    """
    deadline = Deadline.after(timeout)
    candidates = _points("wait_any", points)
    if not candidates:
        raise UsageError("wait_any needs at least one point")
    outcomes: queue.SimpleQueue[tuple[protocols.FencePoint, Exception | None]] = queue.SimpleQueue()

    def settle(point: protocols.FencePoint, error: Exception | None) -> None:
        outcomes.put((point, error))

    for point in candidates:
        if point.done:
            return point
    try:
        for point in candidates:
            point.on_done(settle)
        point, error = outcomes.get(timeout=deadline.left())
    except queue.Empty:
        lanes = ", ".join(f"{p.timeline.name!r} value {p.value}" for p in candidates)
        raise FenceTimeout(
            f"none of {len(candidates)} points was complete within {timeout} s: {lanes}"
        ) from None
    finally:
        for point in candidates:
            forget(point, settle)
    if error is not None:
        raise copy_exception(error)
    return point


def _points(call: str, points: Iterable[protocols.FencePoint]) -> tuple[protocols.FencePoint, ...]:
    given = sequence(f"what {call} takes", points)
    for point in given:
        if not hasattr(point, "timeline"):  # an isinstance check would ask the driver
            raise WrongType(f"{call} takes points, as submit, advance and upload return, not {shown(point)}")
    return given


def forget(point: protocols.FencePoint, callback: Settled) -> None:
    """Take a callback back where the backend's timelines can."""
    can_forget = getattr(point.timeline, "forget", None)
    if can_forget is not None:
        can_forget(callback)
