"""A lane of the assembled device: a name and its timeline."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from forge3d_core import protocols
from forge3d_core.arguments import shown
from forge3d_core.presentation import line, presents
from forge3d_core.timeline.timeline import Timeline


@presents(protocols.Lane)
@attrs.frozen(eq=False)
class DeviceLane:
    """See :class:`forge3d_core.protocols.Lane`."""

    name: str
    timeline: Timeline

    def __repr__(self) -> str:
        return line(f"lane {shown(self.name)}: {self.timeline.counts}")


def lanes_by_name(timelines: Mapping[str, Timeline]) -> dict[str, DeviceLane]:
    """Return the lanes by their names, and by the roles that a program names, whatever lanes there are."""
    lanes = {name: DeviceLane(name, timeline) for name, timeline in timelines.items()}
    first = next(iter(lanes.values()))
    for role in protocols.LANE_ROLES:
        lanes.setdefault(role, first)
    return lanes
