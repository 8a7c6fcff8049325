"""The order of submissions: what one comes after, as asked for and as the memory it shares demands."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from forge3d_core.arguments import shown
from forge3d_core.errors import ForeignObject, UsageError
from forge3d_core.memory.allocator import Allocation
from forge3d_core.protocols import FencePoint
from forge3d_core.timeline.timeline import Timeline


def explicit_waits(after: Iterable[FencePoint]) -> list[FencePoint]:
    """Return the caller's ``after=`` as a list; raises :class:`UsageError` for what is none of points."""
    try:
        points = list(after)
    except TypeError:
        raise UsageError(
            f"after= takes a sequence of points, not {shown(after)}; write after=[point]"
        ) from None
    for point in points:
        if not hasattr(point, "timeline"):  # an isinstance check would ask the driver
            raise UsageError(f"after= takes points, as submit, advance and upload return, not {shown(point)}")
    return points


def hazards(lane: str, reads: Iterable[Allocation], writes: Iterable[Allocation]) -> Iterator[FencePoint]:
    """Yield the points of other lanes that a submission to ``lane`` has to come after."""
    for allocation in reads:
        yield from allocation.dependencies(lane, writes=False)
    for allocation in writes:
        yield from allocation.dependencies(lane, writes=True)


def tokens(points: Iterable[FencePoint], timelines: Collection[Timeline]) -> list[Any]:
    """Return the driver's tokens of the points that the device still has to wait for.

    Raises :class:`ForeignObject` for a point of none of these timelines.
    """
    newest: dict[Timeline, int] = {}
    for point in points:
        if point.timeline not in timelines:
            raise ForeignObject(
                f"point {point.value} of lane {point.timeline.name!r} belongs to another device; "
                "wait for it on the host"
            )
        assert isinstance(point.timeline, Timeline)
        newest[point.timeline] = max(point.value, newest.get(point.timeline, 0))
    found = (timeline.token(value) for timeline, value in newest.items())
    return [token for token in found if token is not None]
