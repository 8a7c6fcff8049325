"""``forge3d trace``: a program, what it leaves, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import numpy as np
import forge3d_core
with forge3d_core.open_device("host") as device, device.readback_pool() as pool:
    buffer = device.create_buffer(4096)
    device.staging_ring().upload(np.ones(4096, np.uint8), buffer)
    print(int(pool.read(buffer).wait().sum()), sys.argv[1:])
    if "fail" in sys.argv:
        sys.exit(3)
    if "raise" in sys.argv:
        raise ValueError("mine")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "forge3d_core", "trace", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("argument", "code"), [("fine", 0), ("fail", 3), ("raise", 1)])
def test_a_program_runs_as_it_would_and_leaves_a_trace(
    script: Path, tmp_path: Path, argument: str, code: int
) -> None:
    path = tmp_path / "t.json"
    ended, out, err = run(script, argument, "-o", path)
    assert ended == code
    assert out == f"4096 ['{argument}']\n"
    assert ("ValueError: mine" in err) == (argument == "raise")
    document = json.loads(path.read_text())
    assert {event["cat"] for event in document["traceEvents"] if event["ph"] == "X"} >= {"submit", "transfer"}


def test_it_is_told_in_text_and_from_a_file(script: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    code, out, _ = run(script)
    assert code == 0
    assert "lane upload" in out
    run(script, "-o", path)
    code, out, _ = run("--plot-from", path)
    assert code == 0
    assert "lane download" in out


def test_a_file_is_drawn(script: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib, which is optional")
    run(script, "-o", tmp_path / "t.json", "--plot", tmp_path / "a.png")
    code, _, err = run("--plot-from", tmp_path / "t.json", "--plot", tmp_path / "b.png", "--window", 0, 5)
    assert (code, err) == (0, "")
    for name in ("a.png", "b.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_done_is_refused(script: Path, tmp_path: Path) -> None:
    for arguments, told in (
        ([], "give a Python script"),
        ([tmp_path / "none.py"], "no file"),
        ([script, "--plot-from", script], "no program"),
        (["--plot-from", script], "no trace that forge3d saved"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert told in err
