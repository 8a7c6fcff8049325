"""How many mutants a self-test killed: those over the protocols, and those over drivers, apart."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from forge3d_conformance.report.states import Outcome

DRIVER = "driver."
"""What the names of driver mutants begin with."""


@attrs.frozen
class Score:
    """What became of the mutants of one family; ``family`` is its name in the plural."""

    family: str
    outcomes: tuple[Outcome, ...]

    def count(self, outcome: Outcome) -> int:
        return self.outcomes.count(outcome)

    @property
    def showing(self) -> int:
        """How many could show here at all."""
        return len(self.outcomes) - self.count(Outcome.NOT_APPLICABLE)

    def __str__(self) -> str:
        told = f"{self.count(Outcome.KILLED)} of {self.showing} {self.family} killed"
        others = [(outcome, self.count(outcome)) for outcome in Outcome if outcome is not Outcome.KILLED]
        return told + "".join(f", {count} {found.replace('_', ' ')}" for found, count in others if count)


def scores(found: Iterable[tuple[str, Outcome]]) -> tuple[Score, ...]:
    """Return the score of each family that has mutants among these names with their outcomes."""
    families: dict[str, list[Outcome]] = {}
    for name, outcome in found:
        families.setdefault("driver mutants" if name.startswith(DRIVER) else "mutants", []).append(outcome)
    return tuple(Score(family, tuple(families[family])) for family in sorted(families, reverse=True))
