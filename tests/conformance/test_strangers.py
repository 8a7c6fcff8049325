"""Backends of a stranger's making: the right one passes, each wrong one is caught by the name of a clause."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forge3d_conformance.commands.verify import app as verify
from forge3d_conformance.report import Outcome, State, Verdict
from forge3d_conformance.report.store import read

Forge3d = Callable[..., subprocess.CompletedProcess[str]]


def failed(directory: Path) -> set[str]:
    return {result.id for result in read(directory).clauses if result.state is State.FAIL}


@pytest.mark.long
def test_the_right_one_is_conformant(forge3d: Forge3d, tmp_path: Path) -> None:
    ended = forge3d("conformance", "--backend", "stranger", "--report", tmp_path)
    assert ended.returncode == 0, ended.stdout
    report = read(tmp_path)
    assert report.verdict is Verdict.CONFORMANT
    assert report.backend.distribution == "stranger-backend"
    unsupported = {r.id: r.reason or "" for r in report.clauses if r.state is State.UNSUPPORTED}
    assert unsupported.keys() == {
        "ring.no-head-of-line",
        "ring.async",
        "device.foreign-error",
        "device.replay",
        "readback.many",
        "pipeline.poisoned",
        "budget.process",
        "budget.every-refusal",
    }
    assert "concurrent_lanes" in unsupported["ring.no-head-of-line"]  # it has one queue, and says so
    assert "driver" in unsupported["device.foreign-error"]  # it is not made of a driver of ours
    verified = forge3d("verify", tmp_path)
    assert verified.returncode == 0, verified.stdout


@pytest.mark.long
def test_mutants_are_caught_over_its_code_too(forge3d: Forge3d, tmp_path: Path) -> None:
    ended = forge3d(
        *("conformance", "--backend", "stranger", "--clause", "*.n*", "--self-test", "--report", tmp_path)
    )
    assert "survived" not in ended.stdout, ended.stdout
    outcomes = [mutant.outcome for mutant in read(tmp_path).mutants]
    assert outcomes.count(Outcome.KILLED) >= 20
    assert set(outcomes) == {Outcome.KILLED, Outcome.NOT_APPLICABLE}


WRONG = {
    "eager": ("fence.*", {"fence.truth"}),
    "hasty": ("ring.*", {"ring.no-reuse-before-signal"}),
    "late": ("readback.*", {"readback.snapshot", "readback.no-stale-bytes", "readback.latest"}),
}


@pytest.mark.parametrize("backend", WRONG)
def test_each_wrong_one_is_caught_by_the_name_of_its_clause(
    forge3d: Forge3d, tmp_path: Path, backend: str
) -> None:
    clauses, broken = WRONG[backend]
    ended = forge3d(
        *("conformance", "--backend", backend, "--clause", clauses, "--jobs", "1", "--report", tmp_path)
    )
    assert ended.returncode == 1, ended.stdout
    assert failed(tmp_path) == broken
    assert read(tmp_path).verdict is Verdict.NONCONFORMANT
    assert all(f"fail {clause}" in ended.stdout for clause in broken)
    verified = CliRunner().invoke(verify, [str(tmp_path)])
    assert verified.exit_code == 1, verified.output
    assert "nonconformant" in verified.output


def test_pytest_alone_says_the_same(strangers: dict[str, str], tmp_path: Path) -> None:
    def run(backend: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "pytest",
                    "-p",
                    "no:cacheprovider",
                    "--pyargs",
                    "forge3d_conformance",
                ),
                *("--backend", backend, "--clause", "readback.snapshot", "--report", str(tmp_path / backend)),
            ],
            cwd=tmp_path,
            env=strangers,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    right, wrong = run("stranger"), run("late")
    assert right.returncode == 0, right.stdout + right.stderr
    assert wrong.returncode == pytest.ExitCode.TESTS_FAILED, wrong.stdout + wrong.stderr
    assert failed(tmp_path / "stranger") == set()
    assert failed(tmp_path / "late") == {"readback.snapshot"}
