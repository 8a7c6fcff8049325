"""The point: one value of one timeline."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol

from forge3d_core import protocols
from forge3d_core.arguments import function, shown
from forge3d_core.presentation import line, presents
from forge3d_core.timeline.points import Settled, settled


class Valued(protocols.Timeline, Protocol):
    """The timeline of a point, as the point asks it."""

    last_known: int

    def poll(self) -> None: ...

    def wait(
        self, value: int, timeout: float | None = None, over: Callable[[], bool] | None = None
    ) -> None: ...

    def nudge(self) -> None: ...

    def watch(self, point: Point, callback: Settled) -> None: ...

    def tell(self, value: int) -> str: ...


@presents(protocols.FencePoint)
class Point:
    """See :class:`forge3d_core.protocols.FencePoint`."""

    __slots__ = ("__weakref__", "timeline", "value")

    def __init__(self, timeline: Valued, value: int) -> None:
        self.timeline = timeline
        self.value = value

    def __eq__(self, other: object) -> bool:
        return other is self or (
            isinstance(other, Point) and other.timeline is self.timeline and other.value == self.value
        )

    def __hash__(self) -> int:
        return hash((self.timeline, self.value))

    def __repr__(self) -> str:
        return line(
            f"point {shown(self.value)} of lane {shown(self.timeline.name)}", self.timeline.tell(self.value)
        )

    @property
    def done(self) -> bool:
        timeline = self.timeline
        if timeline.last_known < self.value:
            timeline.poll()
        return timeline.last_known >= self.value

    def wait(self, timeout: float | None = None) -> None:
        self.timeline.wait(self.value, timeout)

    def on_done(self, callback: Settled) -> None:
        function("a point's callback", callback)
        self.timeline.watch(self, callback)

    def __await__(self) -> Generator[Any, None, None]:
        return settled(self).__await__()
