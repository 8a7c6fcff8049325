"""A clause: one guarantee, its source, and how it is tested."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import attrs

Level = Literal["core", "extended", "perf"]
Status = Literal["active", "planned"]
RunLevel = Literal["core", "full", "perf"]

BINDING: Mapping[RunLevel, tuple[Level, ...]] = {
    "core": ("core",),
    "full": ("core", "extended"),
    "perf": ("perf",),
}
"""The clauses that a run at each level must test, by their own level."""

_ID = re.compile(r"[a-z]+\.[a-z]+(-[a-z]+)*")


def _filled(_instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not value.strip():
        raise ValueError(f"a clause needs its {attribute.name}")


@attrs.frozen
class Clause:
    """One guarantee that an implementer can be held to.

    ``id`` is ``area.name`` and never changes. ``level``: *core* is the correctness that every backend
    must have, *extended* is what only a run at level *full* tests: what not every device has or every
    program needs, and the core's own work beside a backend; *perf* is speed, which only a run at level
    *perf* measures, and nothing else does. ``status``: a *planned* clause speaks of
    what is not built yet, is counted apart in every report and never as passed. ``how`` says how it
    is tested, or why it cannot be. ``requires`` names the capabilities that a test of it needs; only
    for want of one of those may a backend call the clause unsupported.
    """

    id: str = attrs.field(validator=attrs.validators.matches_re(_ID))
    level: Level
    text: str = attrs.field(validator=_filled)
    source: str = attrs.field(validator=_filled)
    how: str = attrs.field(validator=_filled)
    status: Status = "active"
    requires: tuple[str, ...] = ()

    @property
    def area(self) -> str:
        return self.id.partition(".")[0]

    @property
    def name(self) -> str:
        return self.id.partition(".")[2]

    @property
    def active(self) -> bool:
        return self.status == "active"

    def binding_at(self, level: RunLevel) -> bool:
        """Whether a run at ``level`` must test it."""
        return self.active and self.level in BINDING[level]
