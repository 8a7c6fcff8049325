"""One report against another: platform against platform, or before against after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from forge3d_conformance.report import ClauseResult, Outcome, PerfResult, Report, State

Interval = Literal["apart", "overlapping", "one-sided"]


@attrs.frozen
class Difference:
    """One thing that the two reports tell differently; None where a report does not have it."""

    name: str
    left: str | None
    right: str | None


@attrs.frozen
class ClauseDifference:
    """A clause in two states, each with its reason or message."""

    id: str
    left: State | None
    right: State | None
    left_note: str = ""
    right_note: str = ""


@attrs.frozen
class MutantDifference:
    id: str
    clause: str
    left: Outcome | None
    right: Outcome | None


@attrs.frozen
class SpeedComparison:
    """A speed target on both platforms; *apart* when the two intervals share no value."""

    clause: str
    case: str
    left: PerfResult | None
    right: PerfResult | None

    @property
    def intervals(self) -> Interval:
        if self.left is None or self.right is None:
            return "one-sided"
        apart = self.left.high < self.right.low or self.right.high < self.left.low
        return "apart" if apart else "overlapping"


@attrs.frozen
class Diff:
    """What differs between two reports, and the speeds of both beside each other.

    ``mutants`` is None where one of the two has no self-test. ``same`` speaks of clauses and mutants: two
    machines always differ in where they are, and seldom agree to the last digit on how fast they are.
    """

    context: tuple[Difference, ...]
    clauses: tuple[ClauseDifference, ...]
    mutants: tuple[MutantDifference, ...] | None
    speeds: tuple[SpeedComparison, ...]
    agreeing: int  # clauses in the same state

    @property
    def same(self) -> bool:
        return not (self.clauses or self.mutants)


def compare(left: Report, right: Report) -> Diff:
    """Return what differs; clauses in the order of the left report, then what only the right one has."""
    clauses = tuple(_clauses(left, right))
    return Diff(
        context=tuple(_context(left, right)),
        clauses=clauses,
        mutants=tuple(_mutants(left, right)) if left.mutants and right.mutants else None,
        speeds=tuple(_speeds(left, right)),
        agreeing=len({r.id for r in (*left.clauses, *right.clauses)}) - len(clauses),
    )


def _context(left: Report, right: Report) -> Iterator[Difference]:
    sides = [_facts(left), _facts(right)]
    for name in sides[0]:
        a, b = (str(side[name]) for side in sides)
        if a != b:
            yield Difference(name, a, b)


def _facts(report: Report) -> dict[str, object]:
    return {
        "verdict": report.verdict.value,
        **attrs.asdict(report.backend),
        **attrs.asdict(report.platform),
        "level": report.level,
        "selection": report.selection,
        "seed": report.seed,
        "self-test": f"of {len(report.mutants)} mutants" if report.mutants else "none",
        "suite": f"{report.suite_version} ({(report.suite_digest or 'unfinished')[:12]})",
        "catalogue": f"{report.catalogue_version} ({report.catalogue_digest[:12]})",
    }


def _clauses(left: Report, right: Report) -> Iterator[ClauseDifference]:
    lefts = {result.id: result for result in left.clauses}
    rights = {result.id: result for result in right.clauses}
    for id in {**lefts, **rights}:
        a, b = lefts.get(id), rights.get(id)
        was, became = a.state if a else None, b.state if b else None
        if was is not became:
            yield ClauseDifference(id, was, became, _note(a), _note(b))


def _note(result: ClauseResult | None) -> str:
    return (result.message or result.reason or "") if result else ""


def _mutants(left: Report, right: Report) -> Iterator[MutantDifference]:
    lefts = {mutant.id: mutant for mutant in left.mutants}
    rights = {mutant.id: mutant for mutant in right.mutants}
    for id, one in {**rights, **lefts}.items():
        a, b = lefts.get(id), rights.get(id)
        was, became = a.outcome if a else None, b.outcome if b else None
        if was is not became:
            yield MutantDifference(id, one.clause, was, became)


def _speeds(left: Report, right: Report) -> Iterator[SpeedComparison]:
    lefts = {(p.clause, p.case): p for p in left.performance}
    rights = {(p.clause, p.case): p for p in right.performance}
    for key in {**lefts, **rights}:
        yield SpeedComparison(*key, lefts.get(key), rights.get(key))
