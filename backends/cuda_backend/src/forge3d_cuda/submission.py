"""Submissions: the tokens that say when work is done, and the streams that they are on."""

from __future__ import annotations

from typing import Any

import attrs

from forge3d_cuda.handles import Handle


class Submission:
    """The token of a submission: its lane and its number there; its event and graph until it is retired."""

    __slots__ = ("event", "graph", "lane", "number")

    def __init__(self, lane: Lane, event: Handle, graph: Handle | None) -> None:
        lane.submitted = self.number = lane.submitted + 1
        self.lane = lane
        self.event: Handle | None = event
        self.graph = graph


@attrs.define(eq=False)
class Lane:
    """A stream, and what it is ordered behind: a zeroing of the pool, a submission of each other lane."""

    name: str
    stream: Handle
    gate: int = 0
    submitted: int = 0
    behind: dict[str, int] = attrs.field(factory=dict)


@attrs.frozen(eq=False)
class Orphan:
    """A submission that an interrupt cut short: no caller has its token, so it keeps what it uses itself."""

    event: Handle
    kept: tuple[Any, ...]  # the commands, arrays over the host blocks that they name, their graph
