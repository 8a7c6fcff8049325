"""Whether a mutant fails the clause that it breaks and no other: a fill bug is to be called a fill bug."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase

import attrs

from forge3d_conformance.mutants import Mutant, mutants
from forge3d_conformance.record import Record, kills


@attrs.frozen
class Stray:
    """A failure under a mutant of a clause that is not its own, by the first test that saw it."""

    mutant: str
    breaks: str
    clause: str
    test: str
    message: str


def matching(glob: str, clauses: Collection[str]) -> tuple[Mutant, ...]:
    """Return the mutants of these clauses whose names match."""
    return tuple(
        mutant for mutant in mutants() if mutant.breaks in clauses and fnmatchcase(mutant.name, glob)
    )


def strays(found: Iterable[Mutant], records: Iterable[Record]) -> Iterator[Stray]:
    """Yield what mutants failed besides their own clauses, one a clause."""
    breaks = {mutant.name: mutant.breaks for mutant in found}
    seen: set[tuple[str, str]] = set()
    for record in records:
        name = record.mutant or ""
        if record.ending != "fail" or breaks.get(name, record.clause) == record.clause:
            continue
        if (name, record.clause) not in seen:
            seen.add((name, record.clause))
            yield Stray(name, breaks[name], record.clause, record.test, record.message or "")


def settled(mutant: Mutant, clause: str, records: Iterable[Record]) -> bool:
    """Whether a test of the clause has said all that there is to say of the mutant."""
    found = [r for r in records if r.mutant == mutant.name and r.clause == clause]
    if clause != mutant.breaks:
        return any(record.ending == "fail" for record in found)
    return any(kills(mutant, record) for record in found)
