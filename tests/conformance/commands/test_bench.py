"""``forge3d bench`` as it is used, rightly and wrongly."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from forge3d_conformance.commands.bench import app

QUICK = ["--backend", "host", "--seconds", "0", "--size", "1000000", "--operation", "upload"]

MEASURED = (0, 1)
"""Whether a target was missed is for no test to say."""


def test_a_table_and_a_file(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    ended = CliRunner().invoke(app, [*QUICK, "--json", str(path)])
    assert ended.exit_code in MEASURED, ended.output
    assert "numpy/copyto" in ended.stdout
    assert "Python calls" in ended.stdout
    assert json.loads(path.read_text("utf-8"))["backend"] == "host"
    again = CliRunner().invoke(app, [*QUICK, "--compare", str(path)])
    assert again.exit_code in MEASURED, again.output


def test_what_cannot_be_measured_is_an_error(tmp_path: Path) -> None:
    for arguments, message in (
        (["--backend", "nonsense"], "nonsense"),
        (["--backend", "host", "--size", "3"], "nothing was measured"),
        ([*QUICK, "--json", str(tmp_path / "no" / "such")], "no"),
        ([*QUICK, "--compare", str(tmp_path / "absent.json")], "absent.json"),
    ):
        ended = CliRunner().invoke(app, arguments)
        assert ended.exit_code == 2, ended.output
        assert message in ended.output
