"""What the suite has to show for each clause: its tests and its mutants, without running any."""

from __future__ import annotations

import importlib
import pkgutil

from forge3d_conformance import clauses
from forge3d_conformance.mutants import mutants


def tests_by_clause() -> dict[str, tuple[str, ...]]:
    """Return the names of the tests that carry each clause's mark."""
    found: dict[str, list[str]] = {}
    for module in pkgutil.iter_modules(clauses.__path__, f"{clauses.__name__}."):
        if module.name.rpartition(".")[2].startswith("test_"):
            for name, function in vars(importlib.import_module(module.name)).items():
                for mark in getattr(function, "pytestmark", ()):
                    if name.startswith("test_") and mark.name == "clause":
                        found.setdefault(mark.args[0], []).append(name)
    return {clause: tuple(names) for clause, names in found.items()}


def mutants_by_clause() -> dict[str, tuple[str, ...]]:
    """Return the names of the mutants that break each clause."""
    found: dict[str, list[str]] = {}
    for mutant in mutants():
        found.setdefault(mutant.breaks, []).append(mutant.name)
    return {clause: tuple(names) for clause, names in found.items()}
