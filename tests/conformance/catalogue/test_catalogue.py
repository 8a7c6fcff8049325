"""The catalogue's data, and looking it up."""

from __future__ import annotations

import attrs
import pytest

from forge3d_conformance.catalogue import Area, Catalogue, Clause
from forge3d_conformance.catalogue.selection import refuse_nothing
from forge3d_conformance.errors import CatalogueError, EmptySelection, UnknownClause

CONTRACT = {
    "fence": "monotonic truth not-early wait-before-signal past-is-free timeout idle-wait nonblocking-query "
    "any-all many-waiters failure-sticks close-wakes cross-lane",
    "ring": "no-reuse-before-signal reuse-after-signal disjoint aligned wraps full-is-none reserve-waits "
    "too-large payload source-captured stats budgeted no-head-of-line stale-view closed count",
    "readback": "nonblocking snapshot not-early exact backpressure pooled no-stale-bytes any-order "
    "idempotent abandoned lease into latest double-buffered budgeted stats async",
    "budget": "exact hard-limit clean-refusal check kinds formats peak release-once collected watermarks "
    "adjustable waits reclaim-first three-refusals",
    "pipeline": "states deps same-answer poisoned stats order poll overlap",
    "device": "no-side-effects reopen closed lost threads fork exit zeroed adopt kernel-errors",
    "plugin": "isolated lazy version precedence no-fallback deny-before-import no-collision explains",
    "perf": "ring-api-cost upload-owned upload-pinned readback-lease readback-owned readback-small "
    "texture-rows duplex fence-cost overlap tax memory growth",
}


@pytest.mark.parametrize("area", CONTRACT)
def test_every_clause_of_the_contract_is_there(catalogue: Catalogue, area: str) -> None:
    names = {clause.name for clause in catalogue.select(area=area)}
    assert set(CONTRACT[area].split()) <= names


def test_areas_are_in_the_contracts_order_and_none_is_empty(catalogue: Catalogue) -> None:
    assert [area.name for area in catalogue.areas] == list(CONTRACT)
    assert all(catalogue.select(area=area.name) for area in catalogue.areas)


def test_texts_are_sentences(catalogue: Catalogue) -> None:
    for clause in catalogue:
        assert clause.text.endswith("."), clause.id
        assert clause.how.endswith("."), clause.id
        assert len(clause.text) > 60, f"{clause.id}: too short to be held to"


def test_what_is_not_built_is_planned_and_says_so(catalogue: Catalogue) -> None:
    planned = {clause.id for clause in catalogue.select(status="planned")}
    assert not planned & {"budget.formats", "budget.watermarks", "readback.latest", "device.adopt"}
    assert not planned & {"pipeline.overlap"}


def test_select_narrows_by_everything_given(catalogue: Catalogue) -> None:
    assert catalogue.select() == catalogue.clauses
    assert {c.area for c in catalogue.select("ring.*")} == {"ring"}
    assert [c.id for c in catalogue.select("*.stats", status="active")] == [
        "ring.stats",
        "readback.stats",
        "pipeline.stats",
    ]
    assert all(c.level == "extended" for c in catalogue.select(level="extended"))
    assert catalogue.select("nothing.*") == ()


def test_a_level_binds_active_clauses_only(catalogue: Catalogue) -> None:
    assert catalogue["ring.wraps"].binding_at("core")
    assert not catalogue["device.adopt-order"].binding_at("core")
    assert catalogue["device.adopt-order"].binding_at("full")
    assert not catalogue["pipeline.overlap"].binding_at("full")


def test_speed_is_measured_at_a_level_of_its_own(catalogue: Catalogue) -> None:
    speed = catalogue.select(level="perf", status="active")
    assert {clause.area for clause in speed} == {"perf", "pipeline"}
    assert {clause.level for clause in catalogue.select(area="perf")} == {"perf"}
    assert catalogue.binding("perf") == speed
    assert not set(speed) & {*catalogue.binding("core"), *catalogue.binding("full")}


def test_a_selection_of_planned_clauses_has_nothing_to_test(unbuilt: Catalogue) -> None:
    with pytest.raises(EmptySelection, match="selects planned clauses only"):
        refuse_nothing(unbuilt, "pipeline.overlap", "perf")


def test_an_unknown_clause_names_the_nearest(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownClause, match=r"did you mean ring\.wraps"):
        catalogue["ring.wrap"]
    assert "ring.wrap" not in catalogue


def test_the_digest_follows_the_rules_and_not_the_wording(catalogue: Catalogue) -> None:
    first, *rest = catalogue.clauses
    reworded = attrs.evolve(catalogue, clauses=(attrs.evolve(first, text="Otherwise."), *rest))
    relaxed = attrs.evolve(catalogue, clauses=(attrs.evolve(first, level="extended"), *rest))
    assert reworded.digest == catalogue.digest
    assert relaxed.digest != catalogue.digest
    assert attrs.evolve(catalogue, clauses=tuple(rest)).digest != catalogue.digest


def _catalogue(*clauses: Clause) -> Catalogue:
    return Catalogue("1", {"hold": "holds"}, (Area("ring", "Ring", "A ring."),), clauses)


def _clause(id: str = "ring.wraps", requires: tuple[str, ...] = ()) -> Clause:
    return Clause(id, "core", "It wraps.", "a guide", "by a test", requires=requires)


@pytest.mark.parametrize(
    ("clauses", "why"),
    [
        ((_clause(), _clause()), "stands twice"),
        ((_clause("rong.wraps"),), "belongs to no area"),
        ((_clause(requires=("hodl",)),), "requires 'hodl'"),
    ],
)
def test_wrong_data_is_refused(clauses: tuple[Clause, ...], why: str) -> None:
    with pytest.raises(CatalogueError, match=why):
        _catalogue(*clauses)


@pytest.mark.parametrize("id", ["wraps", "Ring.wraps", "ring.", "ring.wraps_around", "ring.wraps.again"])
def test_an_id_is_area_and_name(id: str) -> None:
    with pytest.raises(ValueError, match="match"):
        _clause(id)
