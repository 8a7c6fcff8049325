"""One result beside an earlier one: what became of each ratio."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from forge3d_conformance.speed.results import Measured, SpeedReport


@attrs.frozen
class Change:
    """A ratio then and now. ``clear``: the intervals do not overlap, so it is no noise."""

    then: Measured
    now: Measured

    @property
    def clear(self) -> bool:
        return self.now.low > self.then.high or self.now.high < self.then.low

    @property
    def better(self) -> bool:
        rose = self.now.ratio > self.then.ratio
        return rose if self.now.better == "higher" else not rose


def compare(then: SpeedReport, now: SpeedReport) -> Iterator[Change]:
    """Yield the rows that both reports hold, in the order of ``now``."""
    earlier = {row.key: row for row in then.rows}
    for row in now.rows:
        if row.key in earlier:
            yield Change(earlier[row.key], row)
