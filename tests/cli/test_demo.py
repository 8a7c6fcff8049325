"""``forge3d demo`` as it is run: what cannot be done is said before the work, in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("PIL")
pytest.importorskip("matplotlib")


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forge3d_core", "demo", "--backend", "host", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, encoding="utf-8", timeout=100, check=False
    )


@pytest.mark.parametrize("size", ["200 TiB", "9" * 30, "9" * 5000, "-1", "lots", "1"])
def test_a_size_that_cannot_be_is_one_line(tmp_path: Path, size: str) -> None:
    done = demo(tmp_path, f"--size={size}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("forge3d: ")


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", "utf-8")
    done = demo(tmp_path, "--out", "taken")
    assert done.returncode == 2
    assert "taken" in done.stderr.splitlines()[-1]
    assert "preparing" not in done.stderr


def test_what_is_piped_is_neither_padded_nor_wrapped(tmp_path: Path) -> None:
    done = demo(tmp_path, "--size", "1 MiB")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(line == line.strip() for line in lines)
    assert [line.split("  ")[0] for line in lines[:8]] == [
        *("device", "kernel", "streamed", "in flight", "ring", "readback", "budget", "picture")
    ]
    clone = Path(__file__).parents[2]
    assert f"pip install -e {clone / 'backends/wgpu_backend'}" in done.stdout
    told = json.loads(demo(tmp_path, "--size", "1 MiB", "--json").stdout)
    assert told["correct"] is True
    assert (tmp_path / told["picture"]).exists()
