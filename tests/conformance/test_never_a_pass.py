"""Runs that prove nothing: none of them ends well, and nothing that one leaves behind is believed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forge3d_conformance.commands.verify import app as verify
from forge3d_conformance.report import Phase, State
from forge3d_conformance.report.store import JSON, read

Forge3d = Callable[..., subprocess.CompletedProcess[str]]

PATIENCE = 60.0
IMPATIENT = """
import sys
import pytest
from forge3d_conformance import session

session.TEST_SECONDS = 2
sys.exit(pytest.main(sys.argv[1:]))
"""


def nothing_is_proven(directory: Path) -> None:
    """Verify what a run left behind, which is a report that proves nothing, or no report."""
    verified = CliRunner().invoke(verify, [str(directory)])
    assert verified.exit_code in (1, 2), verified.output
    assert "✓" not in verified.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no backend to test"),
        (("--backend", "nobody"), "no installed distribution offers a backend 'nobody'"),
        (("--backend", "stranger:another"), "no device 'another'"),
        (("--backend", "stranger", "--clause", "fence.nothing"), "matches no clause"),
    ],
)
def test_a_run_of_nothing(forge3d: Forge3d, tmp_path: Path, arguments: Sequence[str], said: str) -> None:
    ended = forge3d("conformance", *arguments, "--report", tmp_path / "report")
    assert ended.returncode == 2, ended.stdout
    assert said in ended.stdout
    assert "holds" not in ended.stdout
    nothing_is_proven(tmp_path / "report")


@pytest.mark.parametrize("end", ["exit", "abort", "kill", "segfault"])
def test_a_device_that_takes_the_process_down(forge3d: Forge3d, tmp_path: Path, end: str) -> None:
    ended = forge3d(
        *("conformance", "--backend", f"fatal:{end}", "--clause", "fence.*", "--jobs", "1"),
        *("--report", tmp_path / "report"),
    )
    assert ended.returncode == 2, ended.stdout
    assert "nothing is proven" in ended.stdout
    assert "while testing fence." in ended.stdout
    report = read(tmp_path / "report")
    assert report.phase is Phase.RUNNING
    assert not any(result.state is State.PASS for result in report.clauses)
    nothing_is_proven(tmp_path / "report")


@pytest.mark.parametrize("end", ["leave", "interrupt"])
def test_a_device_that_tries_to_end_the_run(forge3d: Forge3d, tmp_path: Path, end: str) -> None:
    ended = forge3d(
        *("conformance", "--backend", f"fatal:{end}", "--clause", "fence.t*", "--report", tmp_path / "report")
    )
    assert ended.returncode in (1, 2), ended.stdout
    assert "fatal:" + end + " holds" not in ended.stdout
    nothing_is_proven(tmp_path / "report")


def test_a_device_that_hangs(strangers: dict[str, str], tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            *(sys.executable, "-c", IMPATIENT, "-p", "no:cacheprovider", "--pyargs", "forge3d_conformance"),
            *("--backend", "fatal:hang", "--clause", "fence.truth", "--report", str(tmp_path / "report")),
        ],
        cwd=tmp_path,
        env=strangers,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout + ended.stderr
    failed = [result for result in read(tmp_path / "report").clauses if result.state is State.FAIL]
    assert len(failed) == 1
    assert "Timeout" in (failed[0].message or "")
    nothing_is_proven(tmp_path / "report")


@pytest.mark.parametrize("whole", [True, False], ids=["forge3d", "pytest"])
def test_a_run_that_is_killed(strangers: dict[str, str], tmp_path: Path, whole: bool) -> None:
    directory = tmp_path / "report"
    suite = ["--backend", "stranger", "--report", str(directory)]
    command = (
        ["-c", "from forge3d_core.cli import main; main()", "conformance", *suite]
        if whole
        else ["-m", "pytest", "-p", "no:cacheprovider", "--pyargs", "forge3d_conformance", *suite]
    )
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=tmp_path,
        env=strangers,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that the run's own child dies with it
    ) as run:
        appeared = waited_for(directory / JSON, run)
        os.killpg(run.pid, signal.SIGKILL)
    assert appeared
    assert run.returncode == -signal.SIGKILL
    report = read(directory)
    assert report.phase is Phase.RUNNING
    assert report.totals["pass"] == 0
    nothing_is_proven(directory)


def waited_for(path: Path, run: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not path.exists() and time.monotonic() < deadline:
        try:
            run.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
        return False
    return path.exists()


def test_a_report_of_a_run_that_went_down_cannot_be_touched_up(forge3d: Forge3d, tmp_path: Path) -> None:
    ended = forge3d("conformance", "--backend", "fatal:exit", "--clause", "fence.t*", "--report", tmp_path)
    assert ended.returncode == 2, ended.stdout
    text = (tmp_path / JSON).read_text("utf-8")
    assert '"running"' in text
    touched = text.replace('"running"', '"finished"').replace('"incomplete"', '"conformant"')
    (tmp_path / JSON).write_text(touched, "utf-8")
    verified = CliRunner().invoke(verify, [str(tmp_path)])
    assert verified.exit_code == 2, verified.output
    assert "not to be believed" in verified.output
