"""What the suite has to show for each clause: its tests and its mutants, without running any."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from typing import Any

import attrs

from forge3d_conformance import clauses
from forge3d_conformance.catalogue import Clause
from forge3d_conformance.fingerprint import fingerprint
from forge3d_conformance.mutants import Mutant, mutants


@attrs.frozen
class ClauseTest:
    """A test of a clause; ``requires`` is None where the catalogue says what it needs.

    ``code`` is a digest of its source.
    """

    name: str
    requires: tuple[str, ...] | None = None
    cases: int = 1
    code: str = ""

    def needs(self, clause: Clause) -> frozenset[str]:
        return frozenset(clause.requires if self.requires is None else self.requires)


@attrs.frozen(slots=False)
class Inventory:
    """The tests and the mutants of each clause, by its id."""

    tests: Mapping[str, tuple[ClauseTest, ...]]
    mutants: Mapping[str, tuple[Mutant, ...]]

    @cached_property
    def digest(self) -> str:
        """Of all tests with their code, and of which mutants there are: runs of one suite agree on it."""
        tests = [[clause, *attrs.astuple(test)] for clause in self.tests for test in self.tests[clause]]
        breaking = [[m.breaks, m.name, m.requires] for found in self.mutants.values() for m in found]
        return _digest([sorted(tests, key=repr), sorted(breaking, key=repr)])

    def digest_of(self, clause: Clause) -> str:
        """Of one clause, as a run is bound by it: its level, what it needs, and its tests with their code.

        A report speaks of a clause for as long as its reader's suite has the same.
        """
        tests = [list(attrs.astuple(test)) for test in self.tests.get(clause.id, ())]
        rules = [clause.id, clause.level, clause.status, sorted(clause.requires)]
        return _digest([rules, sorted(tests, key=repr)])


def _digest(found: list[Any]) -> str:
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


@cache
def take() -> Inventory:
    """Return what this suite has. It imports every clause test, so pytest should have collected first."""
    tests: dict[str, list[ClauseTest]] = {}
    for clause, test in _tests():
        tests.setdefault(clause, []).append(test)
    breaking: dict[str, list[Mutant]] = {}
    for mutant in mutants():
        breaking.setdefault(mutant.breaks, []).append(mutant)
    return Inventory(
        {clause: tuple(found) for clause, found in tests.items()},
        {clause: tuple(found) for clause, found in breaking.items()},
    )


def base(name: str) -> str:
    """Return the name of a test without that of its case."""
    return name.partition("[")[0]


def _tests() -> Iterator[tuple[str, ClauseTest]]:
    for module in pkgutil.iter_modules(clauses.__path__, f"{clauses.__name__}."):
        if module.name.rpartition(".")[2].startswith("test_"):
            for name, function in vars(importlib.import_module(module.name)).items():
                marks: list[Any] = getattr(function, "pytestmark", [])
                cases = math.prod(len(mark.args[1]) for mark in marks if mark.name == "parametrize")
                for mark in marks:
                    if name.startswith("test_") and mark.name == "clause":
                        code = fingerprint(module.name, name)
                        yield mark.args[0], ClauseTest(name, mark.kwargs.get("requires"), cases, code)
