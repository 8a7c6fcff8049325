"""Whole runs: every way to end, and that only one of them is a success."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from forge3d_conformance.commands.conformance import app
from forge3d_conformance.report.store import read
from forge3d_conformance.running import Ran

Run = Callable[..., Ran]
ONE = ("--backend", "crooked", "--clause", "fence.close-wakes")


def states(ran: Ran) -> dict[str, Any]:
    assert ran.last is not None, ran.output
    return {result["id"]: result["state"] for result in ran.last["clauses"]}


def test_what_holds_is_a_success(run: Run, tmp_path: Path) -> None:
    ran = run("--backend", "host", "--clause", "fence.not-early", "--self-test", "--report", str(tmp_path))
    assert ran.status == 0, ran.output
    assert states(ran) == {"fence.not-early": "pass"}
    assert ran.last is not None
    assert {mutant["outcome"] for mutant in ran.last["mutants"]} == {"killed"}
    report = read(tmp_path)
    assert report.totals["pass"] == 1
    assert len(report.mutants) == len(ran.last["mutants"])


def test_no_backend_is_no_success(run: Run) -> None:
    ran = run("--backend", "nobody")
    assert (ran.status, ran.last) == (4, None)
    assert "no backend 'nobody' is installed" in ran.output


def test_clause_tests_without_a_backend_do_not_run(run: Run) -> None:
    ran = run()
    assert ran.status == 4
    assert "clause tests need a backend" in ran.output


def test_no_clause_is_no_success(run: Run) -> None:
    ran = run("--backend", "host", "--clause", "fence.nothing-of-that-name")
    assert (ran.status, ran.last) == (4, None)


def test_a_capability_that_is_missing_makes_clauses_unsupported(
    run: Run, crooked: Callable[..., None]
) -> None:
    crooked(capabilities=("hold",))
    ran = run("--backend", "crooked", "--clause", "fence.failure-sticks")
    assert ran.status != 0
    assert states(ran) == {"fence.failure-sticks": "unsupported"}
    assert ran.last is not None
    assert "lose" in ran.last["clauses"][0]["reason"]


def test_a_capability_that_nothing_tested_fails_the_run(run: Run, crooked: Callable[..., None]) -> None:
    crooked(unsupported=(("fence.f*", "this device cannot be lost"),))
    ran = run("--backend", "crooked", "--clause", "fence.[fn]*")
    assert ran.status == 1
    assert ran.last is not None
    assert any("declares 'lose'" in reason for reason in ran.last["reasons"])


def test_a_known_failure_that_passes_fails_the_run(run: Run, crooked: Callable[..., None]) -> None:
    crooked(known_failures=(("fence.close-wakes", "", "numpy", "waiters hang"),))
    ran = run(*ONE)
    assert ran.status == 1
    assert states(ran) == {"fence.close-wakes": "unexpected_pass"}


def test_a_killed_run_leaves_no_pass_behind(run: Run, crooked: Callable[..., None], tmp_path: Path) -> None:
    crooked(dies_at=2)
    ran = run(*ONE, "--report", str(tmp_path / "report"))
    assert (ran.status, ran.last) == (-signal.SIGKILL, None)
    assert ran.how() == "the run was ended by signal 9 while testing fence.close-wakes"
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert report["phase"] == "running"
    assert "pass" not in {result.state.value for result in read(tmp_path / "report").clauses}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--backend", "host", "--clause", "fence.close-wakes"], 0, "host holds"),
        (["--backend", "nobody"], 2, "no backend 'nobody' is installed"),
        ([], 2, "no backend to test"),
        (["--backend", "host", "--clause", "perf.nothing"], 2, "matches no clause"),
    ],
)
def test_the_command(arguments: list[str], status: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORGE3D_BACKEND", raising=False)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == status, result.output
    assert said in result.output


def test_the_command_says_that_a_killed_run_proves_nothing(crooked: Callable[..., None]) -> None:
    crooked(dies_at=2)
    result = CliRunner().invoke(app, list(ONE))
    assert result.exit_code == 2
    assert "ended by signal 9" in result.output
    assert "nothing is proven" in result.output
