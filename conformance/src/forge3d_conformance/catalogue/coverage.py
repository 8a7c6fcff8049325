"""What CI asks of the suite itself: every clause has its test, every core clause its mutant."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from forge3d_conformance.catalogue.catalogue import Catalogue


def gaps(
    catalogue: Catalogue,
    tests: Mapping[str, Collection[str]],
    mutants: Mapping[str, Collection[str]],
) -> tuple[str, ...]:
    """Return what is missing or too much, one sentence each; empty when all is well.

    ``tests`` and ``mutants`` map clause ids to the names of what was collected for them.
    """
    return (
        *_strangers("test", catalogue, tests),
        *_strangers("mutant", catalogue, mutants),
        *untested(catalogue, tests),
        *unmutated(catalogue, mutants),
        *premature(catalogue, tests),
    )


def untested(catalogue: Catalogue, tests: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Name the active clauses without a test."""
    for clause in catalogue.select(status="active"):
        if not tests.get(clause.id):
            yield f"{clause.id} is active and no test carries its mark; write one or call it planned"


def unmutated(catalogue: Catalogue, mutants: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Name the active core and perf clauses without a mutant."""
    for clause in catalogue.select(status="active"):
        if clause.level != "extended" and not mutants.get(clause.id):
            yield (
                f"{clause.id} is {clause.level} and no mutant breaks it: "
                "nothing proves that its test can fail"
            )


def premature(catalogue: Catalogue, tests: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Name the planned clauses that have a test all the same: nothing would ever count it."""
    for clause in catalogue.select(status="planned"):
        if names := tests.get(clause.id):
            yield f"{clause.id} is planned, yet {', '.join(sorted(names))} tests it; make it active"


def _strangers(what: str, catalogue: Catalogue, found: Mapping[str, Collection[str]]) -> Iterator[str]:
    for id in sorted(found.keys() - {clause.id for clause in catalogue}):
        yield f"{what} {', '.join(sorted(found[id]))} names {id!r}, which is no clause of the catalogue"
