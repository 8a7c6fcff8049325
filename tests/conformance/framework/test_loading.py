"""The suite loads what the user allows, and says of the rest why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from forge3d_conformance.running import Ran

Run = Callable[..., Ran]
ONE = ("--backend", "crooked", "--clause", "fence.failure-sticks")


def rival(site: Path, points: str) -> None:
    """Install a second distribution with these entry points; it has no code."""
    info = site / "rival-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(points)


def test_a_name_that_two_distributions_offer_is_not_tested(
    run: Run, crooked: Callable[..., None], tmp_path: Path
) -> None:
    crooked()
    rival(tmp_path / "site", "[forge3d.backends]\ncrooked = rival_of_crooked\n")
    ran = run(*ONE)
    assert (ran.status, ran.last) == (4, None)
    assert "2 distributions offer a backend 'crooked', so none is loaded" in ran.output


def test_of_two_the_one_that_is_not_denied_is_tested(
    run: Run, crooked: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crooked()
    rival(tmp_path / "site", "[forge3d.backends]\ncrooked = rival_of_crooked\n")
    monkeypatch.setenv("FORGE3D_DENY", "rival")
    assert run(*ONE).holds


def test_what_is_denied_is_not_loaded(
    run: Run, crooked: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crooked()
    (tmp_path / "site" / "crooked.py").write_text("print('CODE OF CROOKED RAN')")
    monkeypatch.setenv("FORGE3D_DENY", "crooked")
    ran = run(*ONE)
    assert (ran.status, ran.last) == (4, None)
    assert "backend 'crooked' (crooked 1.0) is not loaded" in ran.output
    assert "CODE OF CROOKED RAN" not in ran.output


def test_another_distribution_lends_nothing(run: Run, crooked: Callable[..., None], tmp_path: Path) -> None:
    crooked(lends=False)
    rival(tmp_path / "site", "[forge3d.conformance]\ncrooked = crooked:Subject\n")
    ran = run(*ONE)
    assert ran.last is not None, ran.output
    assert any("hold is not lent" in reason for reason in ran.last["reasons"])


def test_automatic_choice_is_no_backend_to_test(run: Run) -> None:
    ran = run("--backend", "auto", "--clause", "fence.truth")
    assert (ran.status, ran.last) == (4, None)
    assert "name one backend" in ran.output
