"""Each of our backends that this machine has holds every core clause."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from forge3d_conformance.report import Report, State, Verdict
from forge3d_conformance.report.store import read

MEASURED_AGAIN = 3
"""How often what could not be measured is measured again: other tests run beside this one."""


def conformance(backend: str, folder: Path, *options: str) -> tuple[int, Report, str]:
    ended = subprocess.run(
        [
            *(sys.executable, "-c", "from forge3d_core.cli import main; main()", "conformance"),
            *("--backend", backend, "--level", "core", "--report", str(folder), *options),
        ],
        cwd=folder.parent,
        env={name: value for name, value in os.environ.items() if not name.startswith("FORGE3D_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    return ended.returncode, read(folder), ended.stdout


@pytest.mark.long
@pytest.mark.parametrize("backend", ["wgpu", "host", "cuda"], indirect=True)
def test_it_is_conformant(backend: str, tmp_path: Path) -> None:
    """What fails has failed; what is inconclusive says nothing of the backend, and is measured again."""
    status, report, said = conformance(backend, tmp_path / "report")
    assert report.verdict in (Verdict.CONFORMANT, Verdict.INCOMPLETE), said
    doubtful = [clause.id for clause in report.clauses if clause.state is State.INCONCLUSIVE]
    assert (status == 0) == (report.verdict is Verdict.CONFORMANT) == (not doubtful), said
    for clause in doubtful:
        for _ in range(MEASURED_AGAIN):
            status, _, said = conformance(backend, tmp_path / "again", "--clause", clause)
            if "inconclusive" not in said:
                break
        assert status == 0, said
