"""``forge3d explain``: how large transfers would be cut, and why so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from forge3d_core.cli.app import app
from forge3d_core.host.plugin import HostBackend
from forge3d_core.transfer.kept_tuning import keep_tuning
from forge3d_core.transfer.tuning import Tuning, Tunings
from forge3d_core.units import MIB

FOUND = Tunings(Tuning(smallest=MIB, largest=4 * MIB, helpers=3), Tuning(helpers=2))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tunings in a folder of this test."""
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path))


def tuning(monkeypatch: pytest.MonkeyPatch, mode: str) -> dict[str, Any]:
    monkeypatch.setenv("FORGE3D_TUNING", mode)
    done = CliRunner().invoke(app, ["explain", "--backend", "host", "--json"])
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)["tuning"]
    return told


def test_it_shows_what_was_measured_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuning(monkeypatch, "measured")["measured"] is None
    keep_tuning(HostBackend().probe()[0], FOUND)
    told = tuning(monkeypatch, "measured")
    assert (told["value"], told["origin"]) == ("measured", "environment")
    assert {way: figures["helpers"] for way, figures in told["measured"].items()} == {"upload": 3, "read": 2}
    text = CliRunner().invoke(app, ["explain", "--backend", "host"]).stdout
    shown = " ".join(text.split())
    assert "chunks of 1 MiB to 4 MiB, 3 workers, reads chunks of 2 MiB to 8 MiB, 2 workers: measured" in shown


def test_what_is_fixed_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_tuning(HostBackend().probe()[0], FOUND)
    assert tuning(monkeypatch, "fixed")["measured"] is None
