"""Every example, and the README's program, run as they stand on every backend that this machine has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import forge3d_core

ROOT = Path(forge3d_core.__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
on_each = pytest.mark.parametrize("backend", ["host", "wgpu", "cuda"], indirect=True)


def run(backend: str, folder: Path, *command: str) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FORGE3D_")}
    environ |= {
        "FORGE3D_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
        "XDG_CONFIG_HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),  # without one Mesa complains on standard error
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=folder,
        env=environ,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    return done.stdout


@on_each
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(backend: str, tmp_path: Path, example: Path) -> None:
    printed = run(backend, tmp_path, str(example))
    assert f"on {backend.partition(':')[0]}:" in printed
    assert printed.endswith("ok\n")


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6
    assert len(README) == 1


@on_each
def test_readme(backend: str, tmp_path: Path) -> None:
    run(backend, tmp_path, "-c", README[0])
