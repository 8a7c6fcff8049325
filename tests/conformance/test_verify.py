"""What a careful forger cannot change unnoticed, digest or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.inventory import ClauseTest, Inventory
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
from forge3d_conformance.verify import UTC_SECONDS, verify


def _forged(report: Report, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(dump(report))
    change(document)
    document["digest"] = digest(document)
    return canonical(document)


def test_a_true_pass_is_believed(
    catalogue: Catalogue, inventory: Inventory, run: Callable[..., Report]
) -> None:
    verification = verify(dump(run()), catalogue, inventory)
    assert verification.defects == ()
    assert verification.conformant


@pytest.mark.parametrize(
    "state", [State.FAIL, State.NOT_RUN, State.INCONCLUSIVE, State.UNEXPECTED_PASS, State.KNOWN_FAILURE]
)
def test_a_true_failure_is_believed_and_is_no_pass(
    catalogue: Catalogue, inventory: Inventory, run: Callable[..., Report], state: State
) -> None:
    verification = verify(dump(run({"ring.wraps": state})), catalogue, inventory)
    assert verification.sound
    assert verification.conformant is (state is State.KNOWN_FAILURE)


def test_a_run_that_was_killed_is_no_pass(catalogue: Catalogue, inventory: Inventory, begun: Report) -> None:
    verification = verify(dump(begun), catalogue, inventory)
    assert verification.sound
    assert not verification.conformant


def _drop(document: dict[str, Any], id: str) -> None:
    document["clauses"] = [c for c in document["clauses"] if c["id"] != id]
    document["totals"]["fail"] -= 1


def _relabel(document: dict[str, Any], clause: str, **changes: Any) -> None:
    next(c for c in document["clauses"] if c["id"] == clause).update(changes)


TOMORROW = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

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
    "catalogue": (lambda d: d.update(catalogue_version="0.9"), "and catalogue 0.9"),
    "future": (lambda d: d.update(started=TOMORROW, finished=TOMORROW), "by this machine's clock"),
    "hasty": (lambda d: _relabel(d, "ring.wraps", seconds=86_400.0), "the tests took 86400 s"),
    "a bit hasty": (lambda d: _relabel(d, "ring.wraps", seconds=8.0), "the tests took 8 s, and the run"),
    "in thousands": (lambda d: d.update(jobs=1000), "256 processes at most, not 1000"),
    "other tests": (lambda d: _relabel(d, "ring.wraps", digest="0"), "with other tests than this suite's"),
    "unfinished": (lambda d: d.update(finished=None), "its end is None"),
    "mutant": (lambda d: d["mutants"][0].update(clause="ring.warps"), "names ring.warps"),
    "twice": (lambda d: d["mutants"].append(d["mutants"][0]), "stands there twice"),
    "speed": (lambda d: d["performance"].append(d["performance"][0]), "stands there twice"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_are_not_believed(
    catalogue: Catalogue,
    inventory: Inventory,
    run: Callable[..., Report],
    self_test: Callable[..., tuple[MutantResult, ...]],
    speed: Callable[..., PerfResult],
    name: str,
) -> None:
    change, why = FORGERIES[name]
    report = run({"ring.wraps": State.FAIL}, mutants=self_test(), performance=(speed(),))
    verification = verify(_forged(report, change), catalogue, inventory)
    assert not verification.sound
    assert not verification.conformant
    assert any(why in defect for defect in verification.defects), verification.defects


def test_a_planned_clause_never_counts_as_passed(
    unbuilt: Catalogue, inventory: Inventory, run: Callable[..., Report]
) -> None:
    report = run()
    clauses = tuple(
        attrs.evolve(c, state=State.PASS, tests=("t",)) if c.id == "pipeline.overlap" else c
        for c in report.clauses
    )
    forged = attrs.evolve(report, clauses=clauses, totals=tally(clauses), catalogue_digest=unbuilt.digest)
    defects = verify(dump(forged), unbuilt, inventory).defects
    assert "pipeline.overlap is planned, and the report calls it pass" in defects


def _of_today(report: Report, catalogue: Catalogue, suite: Inventory) -> Report:
    """Return the report as if it had been made with that suite."""
    clauses = tuple(
        attrs.evolve(result, digest=result.digest and suite.digest_of(catalogue[result.id]))
        for result in report.clauses
    )
    return attrs.evolve(report, clauses=clauses, suite_digest=suite.digest)


def _all(document: dict[str, Any], key: str, **changes: Any) -> None:
    for entry in document[key]:
        if entry.get("state", "pass") == "pass":
            entry.update(changes)


INVENTED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no such tests": (lambda d: _all(d, "clauses", tests=["nope"]), "names tests that it has not got"),
    "a test twice": (lambda d: _all(d, "clauses", tests=["test_it"] * 2), "or one twice"),
    "tests left out": (
        lambda d: d["clauses"][0].update(tests=["test_it[one]"]),
        "without all of test_it_in_two_cases",
    ),
    "no cases": (lambda d: _all(d, "clauses", examples=0), "nothing was looked at"),
    "selection": (lambda d: d.update(selection="fence.*"), "no test of it runs in the selection 'fence.*'"),
    "level": (lambda d: d.update(level="full"), "the results prove incomplete"),
    "suite": (lambda d: d.update(suite_version="99.0"), "made with forge3d-conformance 99.0 and"),
    "end": (lambda d: d.update(finished="yesterday"), "a time is UTC"),
    "backwards": (lambda d: d.update(finished="2001-01-01T00:00:00Z"), "before it began"),
    "no such mutant": (lambda d: _all(d, "mutants", id="invented"), "no such mutants"),
    "a mutant left out": (lambda d: d["mutants"].pop(), "leaves out 1 mutants: lost/asleep"),
    "killed by nobody": (
        lambda d: _all(d, "mutants", killed_by=["no_such_test"]),
        "by what is no test of ring.wraps: no_such_test",
    ),
    "another clause": (lambda d: d["mutants"][0].update(clause="ring.stats"), "breaks ring.wraps"),
    "not applicable": (
        lambda d: d["mutants"][0].update(outcome="not_applicable", killed_by=[], reason="so it is"),
        "wraps/never is called not applicable, and lacks nothing",
    ),
    "lent": (lambda d: d.update(capabilities=["peek"]), "the results prove incomplete"),
}


@pytest.mark.parametrize("name", INVENTED)
def test_evidence_that_this_suite_cannot_have_given_is_not_believed(
    catalogue: Catalogue,
    inventory: Inventory,
    run: Callable[..., Report],
    self_test: Callable[..., tuple[MutantResult, ...]],
    name: str,
) -> None:
    report = run(mutants=self_test())
    first = report.clauses[0].id
    tests = (ClauseTest("test_it"), ClauseTest("test_it_in_two_cases", cases=2))
    suite = Inventory({**inventory.tests, first: tests}, inventory.mutants)
    cases = ("test_it", "test_it_in_two_cases[one]", "test_it_in_two_cases[two]")
    clauses = tuple(attrs.evolve(c, tests=cases) if c.id == first else c for c in report.clauses)
    report = _of_today(attrs.evolve(report, clauses=clauses), catalogue, suite)
    assert verify(dump(report), catalogue, suite).conformant
    change, why = INVENTED[name]
    verification = verify(_forged(report, change), catalogue, suite)
    assert not verification.conformant
    assert any(why in defect for defect in verification.defects), verification.defects


def test_a_test_that_nobody_could_run_is_not_missed(
    catalogue: Catalogue, inventory: Inventory, run: Callable[..., Report]
) -> None:
    tests = (ClauseTest("test_it"), ClauseTest("test_it_lost", requires=("lose",)))
    suite = Inventory({**inventory.tests, "ring.wraps": tests}, inventory.mutants)
    for lacking, sound in ((("lose",), True), ((), False)):
        report = _of_today(run(lacking=lacking), catalogue, suite)
        assert verify(dump(report), catalogue, suite).sound is sound


def test_a_report_goes_stale_where_a_test_has_changed_and_nowhere_else(
    catalogue: Catalogue,
    inventory: Inventory,
    run: Callable[..., Report],
    self_test: Callable[..., tuple[MutantResult, ...]],
) -> None:
    changed = Inventory(
        {**inventory.tests, "ring.wraps": (ClauseTest("test_it", code="2"),)}, inventory.mutants
    )
    for states in ({}, {"ring.wraps": State.FAIL}):  # which may be mended: it was another test's word
        verification = verify(dump(run(states, mutants=self_test())), catalogue, changed)
        assert verification.sound
        assert verification.stale == ("ring.wraps",)
        assert verification.judgement is not None
        assert verification.judgement.verdict is Verdict.INCOMPLETE
        assert len(verification.judgement.reasons) == 1
    verification = verify(dump(run({"ring.stats": State.FAIL})), catalogue, changed)
    assert verification.judgement is not None
    assert verification.judgement.verdict is Verdict.NONCONFORMANT


def test_a_report_of_fewer_clauses_or_mutants_is_believed_for_what_it_has(
    catalogue: Catalogue,
    inventory: Inventory,
    run: Callable[..., Report],
    self_test: Callable[..., tuple[MutantResult, ...]],
) -> None:
    report = run(mutants=self_test())
    then = attrs.evolve(catalogue, clauses=tuple(c for c in catalogue if c.id != "ring.wraps"))
    clauses = tuple(c for c in report.clauses if c.id != "ring.wraps")
    older = attrs.evolve(
        report,
        clauses=clauses,
        mutants=report.mutants[1:],
        totals=tally(clauses),
        catalogue_digest=then.digest,
    )
    verification = verify(dump(older), catalogue, inventory)
    assert verification.sound
    assert verification.stale == ("ring.wraps",)
    fewer = attrs.evolve(report, mutants=report.mutants[:-1], suite_digest="another")
    verification = verify(dump(fewer), catalogue, inventory)
    assert verification.sound
    assert verification.judgement is not None
    (reason,) = verification.judgement.reasons
    assert "mutant lost/asleep of device.lost was not run: it came after this report" in reason


def test_workers_may_take_so_much_longer_together(
    catalogue: Catalogue, inventory: Inventory, run: Callable[..., Report], result: Callable[..., Any]
) -> None:
    long = {"ring.wraps": result(catalogue["ring.wraps"], State.PASS, seconds=7.0)}
    report = run(results=long)
    ended = datetime.strptime(report.started, UTC_SECONDS) + timedelta(seconds=3)
    report = attrs.evolve(report, finished=ended.strftime(UTC_SECONDS))
    assert not verify(dump(report), catalogue, inventory).sound
    assert verify(dump(attrs.evolve(report, jobs=2)), catalogue, inventory).sound


@given(data=st.data())
def test_no_flipped_state_makes_a_failure_pass(
    catalogue: Catalogue, inventory: Inventory, run: Callable[..., Report], data: st.DataObject
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
    assert not verify(dump(forged), catalogue, inventory).sound


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_never_believed(catalogue: Catalogue, inventory: Inventory, data: bytes) -> None:
    assert not verify(data, catalogue, inventory).sound
