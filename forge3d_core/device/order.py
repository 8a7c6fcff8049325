"""The order of submissions: what one comes after, as asked for and as the memory it shares demands."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from forge3d_core.arguments import shown
from forge3d_core.errors import Closed, ForeignObject, UsageError
from forge3d_core.memory.allocation import Allocation
from forge3d_core.protocols import FencePoint
from forge3d_core.timeline.timeline import Timeline

NO_TOKENS: Sequence[Any] = ()


def explicit_waits(after: Iterable[FencePoint], timelines: Collection[Timeline]) -> list[FencePoint]:
    """Return the caller's ``after=`` as a list.

    Raises :class:`UsageError` for what is none of points, and :class:`ForeignObject` for a point of none of
    these timelines.
    """
    try:
        points = list(after)
    except TypeError:
        raise UsageError(
            f"after= takes a sequence of points, not {shown(after)}; write after=[point]"
        ) from None
    for point in points:
        if not hasattr(point, "timeline"):  # an isinstance check would ask the driver
            raise UsageError(f"after= takes points, as submit, advance and upload return, not {shown(point)}")
        if point.timeline not in timelines:
            raise ForeignObject(
                f"point {point.value} of lane {point.timeline.name!r} belongs to another device; "
                "wait for it on the host"
            )
    return points


def tokens(
    own: Timeline, reads: Iterable[Allocation], writes: Iterable[Allocation], after: Iterable[FencePoint]
) -> Sequence[Any]:
    """Return the driver's tokens that a submission to the lane ``own`` waits for.

    The caller has the lock that submits. Raises :class:`Closed` for memory that was given back, and the
    failure of a lane that the submission would wait for.
    """
    newest: dict[Any, int] = {}
    for allocation in reads:
        if allocation.freed:
            raise _given_back()
        point = allocation.write
        if point is not None and (timeline := point.timeline) is not own:
            newest[timeline] = max(point.value, newest.get(timeline, 0))
    for allocation in writes:
        if allocation.freed:
            raise _given_back()
        point = allocation.write
        if point is not None and (timeline := point.timeline) is not own:
            newest[timeline] = max(point.value, newest.get(timeline, 0))
        for point in allocation.reads:
            if (timeline := point.timeline) is not own:
                newest[timeline] = max(point.value, newest.get(timeline, 0))
    for point in after:
        newest[point.timeline] = max(point.value, newest.get(point.timeline, 0))
    return _tokens(newest) if newest else NO_TOKENS


def _tokens(newest: dict[Timeline, int]) -> list[Any]:
    found = []
    for timeline, value in newest.items():
        if timeline.last_known < value:
            found.append(timeline.token(value))
    return [token for token in found if token is not None]


def _given_back() -> Closed:
    return Closed("memory that this work names was closed, and given back, in the meantime")
