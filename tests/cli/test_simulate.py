"""``forge3d simulate``: which seeds break a program, and how to see it again."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

FAILS_ON_SOME = """
import forge3d_core
with forge3d_core.open_device() as device:
    seed = int((device.info.selector.partition("seed=")[2] or "0").partition("&")[0])
    print("seen", seed)
    assert seed % 3 != 2, f"seed {seed}"
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(FAILS_ON_SOME)
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "forge3d_core", "simulate", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_seeds_that_fail_smallest_first_and_how_to_repeat_them(script: Path) -> None:
    code, out, _ = run(script, "--seeds", 9, "--jobs", 1)
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "seed 2 AssertionError: seed 2"
    assert lines[1].strip() == f"forge3d simulate {script} --only 2"
    assert lines[-1].startswith("3 of 9 seeds fail")
    code, out, _ = run(script, "--only", 2)
    assert code == 1
    assert "seen 2" in out
    assert "assert seed % 3 != 2" in out
    assert "FORGE3D_BACKEND='host:?seed=2&chaos=1'" in out


def test_what_repeats_a_seed_has_all_that_it_depends_on(script: Path) -> None:
    options = ("--only", 2, "--faults", "losses", "--faults", "refusals", "--timeout", 50)
    code, out, _ = run(script, *options, "--json", "--", "a b", "--flag")
    assert code == 1
    repeat = shlex.split(json.loads(out)["failures"][0]["repeat"])
    faults = ["--faults", "refusals", "--faults", "losses"]
    wanted = ["forge3d", "simulate", str(script), "--only", "2", *faults, "--timeout", "50", "--"]
    assert repeat == [*wanted, "a b", "--flag"]
    assert run(*repeat[2:])[0] == 1


def test_json(script: Path) -> None:
    code, out, _ = run(script, "--seeds", 4, "--json")
    data = json.loads(out)
    assert code == 1
    assert data["seeds"] == 4
    assert [failure["seed"] for failure in data["failures"]] == [2]


def test_all_hold(script: Path) -> None:
    code, out, _ = run(script, "--seeds", 1)
    assert (code, out) == (0, "all 1 seeds hold\n")


def test_what_fails_by_itself_is_told_apart(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("raise ValueError('always')")
    code, out, err = run(script)
    assert (code, out) == (2, "")
    assert "without any simulation: ValueError: always" in err
    code, _, err = run(tmp_path / "none.py")
    assert code == 2
    assert "no file" in err
    code, _, err = run(script, "--faults", "fire")
    assert code == 2
    assert "refusals, losses" in err
