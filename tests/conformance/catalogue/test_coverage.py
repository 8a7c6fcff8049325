"""What CI asks of the suite: a test for every clause, a mutant for every core clause."""

from __future__ import annotations

import pytest

from forge3d_conformance.catalogue import Catalogue, gaps

Collected = dict[str, set[str]]


@pytest.fixture
def tests(catalogue: Catalogue) -> Collected:
    return {clause.id: {f"test_{clause.name}"} for clause in catalogue.select(status="active")}


@pytest.fixture
def mutants(catalogue: Catalogue) -> Collected:
    return {
        clause.id: {"a mutant"}
        for clause in catalogue.select(status="active")
        if clause.level in ("core", "perf")
    }


def test_nothing_is_missing_from_a_whole_suite(
    catalogue: Catalogue, tests: Collected, mutants: Collected
) -> None:
    assert gaps(catalogue, tests, mutants) == ()


def test_an_active_clause_without_a_test_is_named(
    catalogue: Catalogue, tests: Collected, mutants: Collected
) -> None:
    del tests["device.adopt-order"]
    tests["ring.wraps"] = set()
    found = gaps(catalogue, tests, mutants)
    assert [gap.split()[0] for gap in found] == ["ring.wraps", "device.adopt-order"]


def test_a_core_clause_without_a_mutant_is_named_and_an_extended_one_is_not(
    catalogue: Catalogue, tests: Collected, mutants: Collected
) -> None:
    assert "device.adopt-order" not in mutants
    del mutants["fence.truth"]
    (gap,) = gaps(catalogue, tests, mutants)
    assert gap.startswith("fence.truth is core")


def test_a_planned_clause_with_a_test_is_named(
    unbuilt: Catalogue, tests: Collected, mutants: Collected
) -> None:
    tests["pipeline.overlap"] = {"test_states"}
    (gap,) = gaps(unbuilt, tests, mutants)
    assert "pipeline.overlap is planned, yet test_states tests it" in gap


def test_names_that_are_no_clause_are_named(
    catalogue: Catalogue, tests: Collected, mutants: Collected
) -> None:
    tests["ring.warps"] = {"test_warps"}
    mutants["ring.wrasp"] = {"Wrasp"}
    found = gaps(catalogue, tests, mutants)
    assert ["ring.warps" in found[0], "ring.wrasp" in found[1], len(found)] == [True, True, 2]
