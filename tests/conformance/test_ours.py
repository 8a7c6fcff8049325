"""Each of our backends that this machine has holds every core clause."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from forge3d_conformance.report import Verdict
from forge3d_conformance.report.store import read


@pytest.mark.long
@pytest.mark.parametrize("backend", ["wgpu", "host", "cuda"], indirect=True)
def test_it_is_conformant(backend: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            *(sys.executable, "-c", "from forge3d_core.cli import main; main()", "conformance"),
            *("--backend", backend, "--level", "core", "--report", str(tmp_path / "report")),
        ],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("FORGE3D_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert read(tmp_path / "report").verdict is Verdict.CONFORMANT
