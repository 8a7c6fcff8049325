"""From the beginning of a run to its end."""

from __future__ import annotations

import getpass
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs
import pytest

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.errors import ReportError, UnknownClause
from forge3d_conformance.report import (
    ClauseResult,
    MutantResult,
    PerfResult,
    Phase,
    Report,
    State,
    Verdict,
    begin,
    dump,
    finish,
)

end = partial(finish, suite_digest="of this suite")


def test_a_begun_run_has_run_nothing(catalogue: Catalogue, begun: Report) -> None:
    assert begun.phase is Phase.RUNNING
    assert begun.finished is None
    assert begun.verdict is Verdict.INCOMPLETE
    assert {result.state for result in begun.clauses} == {State.NOT_RUN}
    assert sum(begun.totals.values()) == len(begun.clauses) == len(catalogue)


def test_what_is_planned_is_said_to_be(unbuilt: Catalogue, begun: Report) -> None:
    run = begin(unbuilt, begun.backend, level="perf", seed=7, capabilities=unbuilt.capabilities)
    assert [result.id for result in run.clauses if result.state is State.PLANNED] == ["pipeline.overlap"]


def test_every_clause_has_a_state_and_they_sum_up(catalogue: Catalogue, run: Callable[..., Report]) -> None:
    report = run({"device.lost": State.UNSUPPORTED})
    assert [result.id for result in report.clauses] == [clause.id for clause in catalogue]
    assert sum(report.totals.values()) == len(catalogue)
    assert report.totals["planned"] == len(catalogue.select(status="planned"))
    assert report.totals["unsupported"] == 1
    beyond = [clause for clause in catalogue.select(status="active") if clause.level != "core"]
    assert report.totals["not_run"] == len(beyond)
    assert report.totals["pass"] == len(catalogue.select(level="core", status="active")) - 1


def test_what_was_not_run_says_why(
    catalogue: Catalogue, begun: Report, result: Callable[..., ClauseResult]
) -> None:
    narrow = attrs.evolve(begun, selection="*.stats")
    report = end(narrow, catalogue, [result(catalogue["ring.stats"], State.PASS)])
    reasons = {r.id: r.reason for r in report.in_state(State.NOT_RUN)}
    assert reasons["readback.stats"] == "the run ended without a result for it"
    assert reasons["ring.wraps"] == "not in the selection '*.stats'"
    whole = end(begun, catalogue, [result(catalogue["ring.stats"], State.PASS)])
    assert {r.reason for r in whole.clauses if r.id == "device.adopt-order"} == {
        "a clause of level extended, and the run was at level core"
    }
    assert report.verdict is whole.verdict is Verdict.INCOMPLETE


def test_a_run_of_nothing_is_an_error(
    catalogue: Catalogue, begun: Report, result: Callable[..., ClauseResult]
) -> None:
    with pytest.raises(ReportError, match="no clause was tested"):
        end(begun, catalogue, [])
    skipped = [result(clause, State.UNSUPPORTED) for clause in catalogue.select(status="active")]
    with pytest.raises(ReportError, match="no clause was tested"):
        end(begun, catalogue, skipped)


def test_results_that_the_catalogue_does_not_know_are_refused(
    catalogue: Catalogue,
    unbuilt: Catalogue,
    begun: Report,
    result: Callable[..., ClauseResult],
    speed: Callable[..., PerfResult],
    survivor: MutantResult,
) -> None:
    passed = result(catalogue["ring.wraps"], State.PASS)
    with pytest.raises(ReportError, match="two results"):
        end(begun, catalogue, [passed, passed])
    with pytest.raises(ReportError, match="only planned"):
        end(begun, unbuilt, [result(unbuilt["pipeline.overlap"], State.PASS)])
    with pytest.raises(UnknownClause):
        end(begun, catalogue, [ClauseResult("ring.warps", "core", State.PASS, tests=("t",))])
    with pytest.raises(ReportError, match="core in the catalogue, not extended"):
        end(begun, catalogue, [ClauseResult("ring.wraps", "extended", State.PASS, tests=("t",))])
    with pytest.raises(UnknownClause):
        end(begun, catalogue, [passed], performance=[speed(clause="perf.taxes")])
    stranger = MutantResult("m", "ring.warps", "d", survivor.outcome)
    with pytest.raises(UnknownClause):
        end(begun, catalogue, [passed], mutants=[stranger])


def test_a_report_names_no_machine(
    catalogue: Catalogue, run: Callable[..., Report], result: Callable[..., ClauseResult]
) -> None:
    here = str(Path(__file__).resolve())
    told = f"{here}:3 on {platform.node()}"
    failure = result(catalogue["ring.wraps"], State.FAIL, message=told, retries={"test_it": (told,)})
    text = dump(run(results={"ring.wraps": failure})).decode()
    assert str(Path(here).parent) not in text
    assert str(Path.home()) + "/" not in text
    if len(platform.node()) > 3:
        assert platform.node() not in text
    assert f"/{getpass.getuser()}/" not in text
