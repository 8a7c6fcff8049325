"""What a careful forger cannot change unnoticed, digest or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.report import (
    MutantResult,
    PerfResult,
    Report,
    State,
    Verdict,
    dump,
    tally,
)
from forge3d_conformance.report.canonical import canonical, digest
from forge3d_conformance.verify import verify


def _forged(report: Report, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(dump(report))
    change(document)
    document["digest"] = digest(document)
    return canonical(document)


def test_a_true_pass_is_believed(catalogue: Catalogue, run: Callable[..., Report]) -> None:
    verification = verify(dump(run()), catalogue)
    assert verification.defects == ()
    assert verification.conformant


@pytest.mark.parametrize(
    "state", [State.FAIL, State.NOT_RUN, State.INCONCLUSIVE, State.UNEXPECTED_PASS, State.KNOWN_FAILURE]
)
def test_a_true_failure_is_believed_and_is_no_pass(
    catalogue: Catalogue, run: Callable[..., Report], state: State
) -> None:
    verification = verify(dump(run({"ring.wraps": state})), catalogue)
    assert verification.sound
    assert verification.conformant is (state is State.KNOWN_FAILURE)


def test_a_run_that_was_killed_is_no_pass(catalogue: Catalogue, begun: Report) -> None:
    verification = verify(dump(begun), catalogue)
    assert verification.sound
    assert not verification.conformant


def _drop(document: dict[str, Any], id: str) -> None:
    document["clauses"] = [c for c in document["clauses"] if c["id"] != id]
    document["totals"]["fail"] -= 1


def _relabel(document: dict[str, Any], clause: str, **changes: Any) -> None:
    next(c for c in document["clauses"] if c["id"] == clause).update(changes)


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "verdict": (lambda d: d.update(verdict="conformant"), "verdict says conformant"),
    "dropped": (lambda d: _drop(d, "ring.wraps"), "missing: ring.wraps"),
    "renamed": (lambda d: _relabel(d, "ring.wraps", id="ring.warps"), "not in the catalogue: ring.warps"),
    "level": (lambda d: _relabel(d, "ring.wraps", level="extended"), "is a core clause"),
    "planned": (
        lambda d: _relabel(d, "ring.wraps", state="planned"),
        "is active, and the report calls it planned",
    ),
    "state": (lambda d: _relabel(d, "ring.wraps", state="pass"), "totals say"),
    "totals": (lambda d: d["totals"].update({"pass": d["totals"]["pass"] + 1}), "totals sum to"),
    "hidden totals": (lambda d: d["totals"].pop("fail"), "totals say"),
    "order": (lambda d: d["clauses"].reverse(), "repeated or out of order"),
    "catalogue": (lambda d: d.update(catalogue_version="0.9"), "made with catalogue 0.9"),
    "rules": (lambda d: d.update(catalogue_digest="0" * 64), "made with catalogue"),
    "unfinished": (lambda d: d.update(finished=None), "its end is None"),
    "mutant": (lambda d: d["mutants"][0].update(clause="ring.warps"), "names ring.warps"),
    "twice": (lambda d: d["mutants"].append(d["mutants"][0]), "stands there twice"),
    "speed": (lambda d: d["performance"].append(d["performance"][0]), "stands there twice"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_are_not_believed(
    catalogue: Catalogue,
    run: Callable[..., Report],
    survivor: MutantResult,
    speed: Callable[..., PerfResult],
    name: str,
) -> None:
    change, why = FORGERIES[name]
    report = run({"ring.wraps": State.FAIL}, mutants=(survivor,), performance=(speed(),))
    verification = verify(_forged(report, change), catalogue)
    assert not verification.sound
    assert not verification.conformant
    assert any(why in defect for defect in verification.defects), verification.defects


def test_a_planned_clause_never_counts_as_passed(catalogue: Catalogue, run: Callable[..., Report]) -> None:
    report = run()
    clauses = tuple(
        attrs.evolve(c, state=State.PASS, tests=("t",)) if c.id == "perf.tax" else c for c in report.clauses
    )
    forged = attrs.evolve(report, clauses=clauses, totals=tally(clauses))
    (defect,) = verify(dump(forged), catalogue).defects
    assert defect == "perf.tax is planned, and the report calls it pass"


@given(data=st.data())
def test_no_flipped_state_makes_a_failure_pass(
    catalogue: Catalogue, run: Callable[..., Report], data: st.DataObject
) -> None:
    """Changing a state and everything that must agree with it still leaves the other failure standing."""
    first, second = data.draw(
        st.lists(
            st.sampled_from([c.id for c in catalogue.select(status="active", level="core")]),
            min_size=2,
            max_size=2,
            unique=True,
        )
    )
    report = run({first: State.FAIL, second: State.FAIL})
    clauses = tuple(
        attrs.evolve(c, state=State.PASS, message=None) if c.id == first else c for c in report.clauses
    )
    forged = attrs.evolve(report, clauses=clauses, totals=tally(clauses), verdict=Verdict.CONFORMANT)
    assert not verify(dump(forged), catalogue).sound


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_never_believed(catalogue: Catalogue, data: bytes) -> None:
    assert not verify(data, catalogue).sound
