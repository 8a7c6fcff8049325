"""From results to a verdict."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.report import (
    ClauseResult,
    Judgement,
    MutantResult,
    Phase,
    Report,
    State,
    Verdict,
    judge,
)


def _judge(catalogue: Catalogue, report: Report) -> Judgement:
    return judge(catalogue, report.level, report.phase, report.clauses, report.mutants)


def test_a_run_in_which_every_core_clause_passed_is_conformant(
    catalogue: Catalogue, run: Callable[..., Report]
) -> None:
    judgement = _judge(catalogue, run())
    assert (judgement.verdict, judgement.reasons, judgement.exceptions) == (Verdict.CONFORMANT, (), ())


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (State.FAIL, Verdict.NONCONFORMANT),
        (State.UNEXPECTED_PASS, Verdict.NONCONFORMANT),
        (State.NOT_RUN, Verdict.INCOMPLETE),
        (State.INCONCLUSIVE, Verdict.INCOMPLETE),
        (State.UNSUPPORTED, Verdict.CONFORMANT),
        (State.KNOWN_FAILURE, Verdict.CONFORMANT),
    ],
)
def test_one_core_clause_decides(
    catalogue: Catalogue, run: Callable[..., Report], state: State, verdict: Verdict
) -> None:
    report = run({"device.lost": state})
    judgement = _judge(catalogue, report)
    assert report.verdict is judgement.verdict is verdict
    excepted = state in (State.UNSUPPORTED, State.KNOWN_FAILURE)
    assert judgement.exceptions == (("device.lost",) if excepted else ())
    assert any("device.lost" in reason for reason in judgement.reasons) is not excepted


def test_unsupported_needs_a_capability_to_be_missing(
    catalogue: Catalogue, run: Callable[..., Report]
) -> None:
    assert not catalogue["ring.wraps"].requires
    judgement = _judge(catalogue, run({"ring.wraps": State.UNSUPPORTED}))
    assert judgement.verdict is Verdict.NONCONFORMANT
    assert "nothing that a backend may lack" in judgement.reasons[0]


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (State.FAIL, Verdict.NONCONFORMANT),
        (State.NOT_RUN, Verdict.INCOMPLETE),
        (State.INCONCLUSIVE, Verdict.CONFORMANT),
        (State.UNSUPPORTED, Verdict.CONFORMANT),
    ],
)
def test_one_extended_clause_at_full_level(
    run: Callable[..., Report], state: State, verdict: Verdict
) -> None:
    assert run({"device.adopt": state}, level="full").verdict is verdict


def test_a_survivor_takes_the_proof_away(
    catalogue: Catalogue, run: Callable[..., Report], survivor: MutantResult
) -> None:
    judgement = _judge(catalogue, run(mutants=(survivor,)))
    assert judgement.verdict is Verdict.INCOMPLETE
    assert judgement.reasons == (
        "mutant wraps/never survived, so the test of ring.wraps proves nothing here",
    )


def test_a_run_that_has_begun_proves_nothing(catalogue: Catalogue, begun: Report) -> None:
    judgement = _judge(catalogue, begun)
    assert judgement.verdict is begun.verdict is Verdict.INCOMPLETE


def test_a_run_in_which_nothing_passed_is_not_conformant(
    catalogue: Catalogue, result: Callable[..., ClauseResult]
) -> None:
    for state in (State.UNSUPPORTED, State.KNOWN_FAILURE):
        clauses = [result(clause, state) for clause in catalogue.select(status="active")]
        assert judge(catalogue, "core", Phase.FINISHED, clauses, ()).verdict is not Verdict.CONFORMANT
    assert judge(catalogue, "core", Phase.FINISHED, (), ()).verdict is Verdict.INCOMPLETE


@given(data=st.data())
def test_conformant_means_that_no_core_clause_is_open(
    catalogue: Catalogue, result: Callable[..., ClauseResult], data: st.DataObject
) -> None:
    states = st.sampled_from([State.PASS] * 20 + [s for s in State if s is not State.PLANNED])
    clauses = [result(c, data.draw(states)) for c in catalogue.select(status="active")]
    phase = data.draw(st.sampled_from(Phase))
    verdict = judge(catalogue, "core", phase, clauses, ()).verdict
    core = [r.state for r in clauses if r.level == "core"]
    unfounded = any(r.state is State.UNSUPPORTED and not catalogue[r.id].requires for r in clauses)
    model = (
        phase is Phase.FINISHED
        and not unfounded
        and not any(r.state.failing for r in clauses)
        and all(s in (State.PASS, State.UNSUPPORTED, State.KNOWN_FAILURE) for s in core)
        and any(r.state is State.PASS for r in clauses)
    )
    assert (verdict is Verdict.CONFORMANT) is model
