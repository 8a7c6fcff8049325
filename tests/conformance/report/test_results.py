"""A state needs its evidence, a ratio its interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from forge3d_conformance.errors import ReportError
from forge3d_conformance.report import Aim, ClauseResult, MutantResult, Outcome, PerfResult, State


@pytest.mark.parametrize(
    ("state", "evidence", "why"),
    [
        (State.PASS, {}, "names no test"),
        (State.FAIL, {"message": "no"}, "names no test"),
        (State.FAIL, {"tests": ("t",)}, "does not say how"),
        (State.UNEXPECTED_PASS, {"tests": ("t",)}, "does not say how"),
        (State.UNSUPPORTED, {}, "gives no reason"),
        (State.INCONCLUSIVE, {"tests": ("t",)}, "gives no reason"),
        (State.NOT_RUN, {}, "gives no reason"),
        (State.KNOWN_FAILURE, {"tests": ("t",), "key": "k"}, "gives no reason"),
        (State.KNOWN_FAILURE, {"tests": ("t",), "reason": "r"}, "of which backend"),
        (State.PASS, {"tests": ("t",), "seconds": float("nan")}, "no time"),
        (State.PASS, {"tests": ("t",), "examples": -1}, "count"),
        (State.PASS, {"tests": ("t",), "retries": {"u": ("late",)}}, "did not run"),
        (State.PASS, {"tests": ("t",), "retries": {"t": ()}}, "for no reason"),
    ],
)
def test_a_state_without_its_evidence_is_refused(state: State, evidence: dict[str, Any], why: str) -> None:
    with pytest.raises(ReportError, match=why):
        ClauseResult("ring.wraps", "core", state, **evidence)


@pytest.mark.parametrize(
    ("outcome", "killers", "reason"),
    [
        (Outcome.KILLED, (), None),
        (Outcome.SURVIVED, ("test_it",), None),
        (Outcome.NOT_APPLICABLE, (), None),
        (Outcome.NOT_RUN, (), None),
    ],
)
def test_a_mutant_without_its_evidence_is_refused(
    outcome: Outcome, killers: tuple[str, ...], reason: str | None
) -> None:
    with pytest.raises(ReportError, match="mutant m"):
        MutantResult("m", "ring.wraps", "a defect", outcome, killers, reason)


@pytest.mark.parametrize(
    ("ratio", "better", "aim"),
    [
        (3.4, "higher", Aim.MET),
        (3.1, "higher", Aim.MET),
        (3.0, "higher", Aim.INCONCLUSIVE),
        (2.8, "higher", Aim.MISSED),
        (3.4, "lower", Aim.MISSED),
        (3.05, "lower", Aim.INCONCLUSIVE),
        (2.8, "lower", Aim.MET),
    ],
)
def test_the_interval_decides_about_the_target(
    speed: Callable[..., PerfResult], ratio: float, better: str, aim: Aim
) -> None:
    assert speed(ratio, 0.1, low=round(ratio - 0.1, 9), better=better).aim is aim


@pytest.mark.parametrize(
    "changes",
    [
        {"low": 3.5},
        {"high": 3.3},
        {"aim": Aim.MISSED},
        {"ratio": float("nan")},
        {"ours_seconds": 0.0},
        {"target": float("inf")},
    ],
)
def test_a_measurement_that_contradicts_itself_is_refused(
    speed: Callable[..., PerfResult], changes: dict[str, Any]
) -> None:
    with pytest.raises(ReportError):
        speed(**changes)
