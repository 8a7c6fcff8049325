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


def test_a_conftest_of_the_working_directory_takes_no_part(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path, tmp_path / "tests"):
        folder.mkdir(exist_ok=True)
        (folder / "conftest.py").write_text("raise SystemExit('ran')\n")
    monkeypatch.chdir(tmp_path)
    ran = run("--backend", "host", "--clause", "fence.close-wakes")
    assert ran.status == 0, ran.output


def test_no_backend_is_no_success(run: Run) -> None:
    ran = run("--backend", "nobody")
    assert (ran.status, ran.last) == (4, None)
    assert "no installed distribution offers a backend 'nobody'" in ran.output


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


def test_what_every_backend_can_lend_and_this_does_not_is_named(
    run: Run, crooked: Callable[..., None], tmp_path: Path
) -> None:
    crooked(lends=False)
    for clause, status in (("budget.check", 0), ("budget.check,fence.[cf]*", 1), ("fence.truth", 5)):
        ran = run("--backend", "crooked", "--clause", clause, "--report", str(tmp_path))
        assert ran.status == status, ran.output
        assert ran.last is not None
        unlent = [reason for reason in ran.last["reasons"] if "is not lent" in reason]
        assert bool(unlent) is (status != 0)
        if unlent:
            assert unlent[0].startswith("hold is not lent, and ")
            assert "Lend it from a conformance subject" in unlent[0]


def test_a_capability_that_nothing_tested_fails_the_run(run: Run, crooked: Callable[..., None]) -> None:
    crooked(capabilities=("lose",))
    ran = run("--backend", "crooked", "--clause", "fence.failure-sticks,budget.check")
    assert ran.status == 1
    assert ran.last is not None
    assert any("declares 'lose'" in reason for reason in ran.last["reasons"])


@pytest.mark.parametrize(
    ("selection", "waived"),
    [("*.budgeted", "ring.budgeted"), ("fence.[cf]*", "fence.failure-sticks")],  # of which one needs nothing
)
def test_a_waiver_fails_whatever_was_selected(
    run: Run, crooked: Callable[..., None], tmp_path: Path, selection: str, waived: str
) -> None:
    crooked(unsupported=((waived, "we would rather not"),))
    ran = run("--backend", "crooked", "--clause", selection, "--report", str(tmp_path))
    assert ran.status == 1
    assert ran.last is not None
    assert ran.last["verdict"] == read(tmp_path).verdict == "nonconformant"
    assert ran.last["reasons"][0] == (
        f"{waived} is called unsupported, and lacks nothing that it requires: we would rather not"
    )


def test_a_declared_reason_stands_for_a_capability_that_is_missing(
    run: Run, crooked: Callable[..., None]
) -> None:
    crooked(capabilities=("hold", "peek"), unsupported=(("fence.failure-sticks", "it cannot be lost"),))
    ran = run("--backend", "crooked", "--clause", "fence.[cf]*")
    assert ran.status == 0, ran.output
    assert ran.last is not None
    assert ran.last["exceptions"] == ["fence.failure-sticks"]
    (result,) = [r for r in ran.last["clauses"] if r["id"] == "fence.failure-sticks"]
    assert (result["state"], result["reason"]) == ("unsupported", "it cannot be lost")


def test_a_known_failure_that_passes_fails_the_run(run: Run, crooked: Callable[..., None]) -> None:
    crooked(known_failures=(("fence.close-wakes", "threads", "numpy", "hang", "waiters hang"),))
    ran = run(*ONE)
    assert ran.status == 1
    assert states(ran) == {"fence.close-wakes": "unexpected_pass"}


@pytest.mark.parametrize(("because", "state"), [("TypeError: no lane", "known_failure"), ("a leak", "fail")])
def test_a_known_failure_is_known_by_what_it_says(
    run: Run, crooked: Callable[..., None], because: str, state: str
) -> None:
    """And where nothing passed nothing is shown, however well known the failures are."""
    crooked(
        broken="raise TypeError('no lane')",
        known_failures=(("fence.truth", "threads", "numpy", because, "its lanes come and go"),),
    )
    ran = run("--backend", "crooked", "--clause", "fence.truth")
    assert ran.status == 1
    assert states(ran) == {"fence.truth": state}
    assert ran.last is not None
    assert ran.last["reasons"] == ["no clause passed"]


def test_a_killed_run_leaves_no_pass_behind(run: Run, crooked: Callable[..., None], tmp_path: Path) -> None:
    crooked(dies_at=2)
    ran = run(*ONE, "--report", str(tmp_path / "report"))
    assert (ran.status, ran.last) == (-signal.SIGKILL, None)
    assert ran.how == "the run was ended by signal 9 while testing fence.close-wakes"
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert report["phase"] == "running"
    assert "pass" not in {result.state.value for result in read(tmp_path / "report").clauses}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--backend", "host", "--clause", "fence.close-wakes"], 0, "host holds in what was selected"),
        (["--backend", "nobody"], 2, "no installed distribution offers a backend 'nobody'"),
        ([], 2, "no backend to test"),
        (["--backend", "host", "--clause", "perf.nothing"], 2, "matches no clause"),
        (["--backend", "host", "--clause", "fence.thruth"], 2, "did you mean fence.truth?"),
        (["--backend", "host", "--clause", "plugin.isolated"], 2, "test them with --level full"),
        (["--backend", "host", "--clause", "pipeline.overlap"], 2, "test them with --level perf"),
        (["--backend", "host", "--clause", "perf.*"], 2, "test them with --level perf"),
        (["--backend", "host", "--seed", "-1"], 2, "greater than or equal to 0"),
        (["--backend", "host", "--report", ""], 2, "no directory for the report"),
    ],
)
def test_the_command(arguments: list[str], status: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORGE3D_BACKEND", raising=False)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == status, result.output
    assert said in result.output


def test_the_command_tells_each_failure_once(crooked: Callable[..., None]) -> None:
    crooked(broken="raise TypeError('no lane')")
    result = CliRunner().invoke(app, ["--backend", "crooked", "--clause", "fence.close-wakes"])
    assert result.exit_code == 1
    told = [line for line in result.output.splitlines() if "no lane" in line]
    assert told
    assert len(told) == len({line.partition(": ")[2] for line in told})
    assert "the same as above: " in result.output
    assert "crooked does not hold in what was selected" in result.output


def test_the_command_names_what_is_not_vouched_for(crooked: Callable[..., None]) -> None:
    crooked(capabilities=("hold", "peek"))
    result = CliRunner().invoke(app, ["--backend", "crooked", "--clause", "fence.[cf]*"])
    assert result.exit_code == 0, result.output
    assert "holds in what was selected, not vouched for: fence.failure-sticks" in result.output


def test_the_command_says_what_to_lend(crooked: Callable[..., None]) -> None:
    crooked(lends=False)
    result = CliRunner().invoke(app, ["--backend", "crooked", "--clause", "fence.truth,budget.check"])
    assert result.exit_code == 1
    assert "hold is not lent" in result.output
    assert "crooked is not shown to hold in what was selected, not vouched for: fence" in result.output


def test_a_clause_does_not_hold_by_its_tests_that_need_no_hold(
    run: Run, crooked: Callable[..., None]
) -> None:
    crooked(capabilities=("peek",))
    ran = run("--backend", "crooked", "--clause", "ring.covers")
    assert states(ran) == {"ring.covers": "not_run"}
    assert not ran.holds


def test_several_globs_are_one_selection(run: Run) -> None:
    ran = run("--backend", "host", "--clause", "ring.wraps", "--clause", "fence.[cm]*-*", "--seed", "3")
    assert states(ran).keys() == {"ring.wraps", "fence.close-wakes", "fence.cross-lane", "fence.many-waiters"}


def test_each_of_several_globs_selects_something(run: Run) -> None:
    ran = run("--backend", "host", "--clause", "ring.wraps", "--clause", "nope")
    assert (ran.status, ran.last) == (4, None)
    assert "--clause 'nope' matches no clause" in ran.output


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_command_says_that_a_killed_run_proves_nothing(crooked: Callable[..., None], jobs: str) -> None:
    crooked(dies_at=2)
    result = CliRunner().invoke(app, [*ONE, "--jobs", jobs])
    assert result.exit_code == 2
    assert "ended by signal 9" in result.output
    assert "nothing is proven" in result.output
