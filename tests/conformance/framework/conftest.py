"""A backend that can be told to misbehave, installed for one test by its entry points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from forge3d_conformance.running import Ran, run_suite

PLUGIN = """
import os, signal
from forge3d_core import hookimpl
from forge3d_core.host.plugin import HostBackend
from forge3d_core.host.subject import HostSubject

class Crooked(HostBackend):
    opened = 0
    def open(self, selector="", options=None):
        Crooked.opened += 1
        if Crooked.opened == {dies_at}:
            os.kill(os.getpid(), signal.SIGKILL)
        if Crooked.opened > 1:  # the first one only looks what there is
            {broken}
        return super().open(selector, options)

@hookimpl
def forge3d_backend():
    return Crooked("crooked")

class Subject(HostSubject):
    capabilities = frozenset({capabilities!r})
    unsupported = {unsupported!r}
    known_failures = {known_failures!r}
"""


@pytest.fixture
def crooked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install the backend ``crooked``: the host's, with another subject or none, and some of its openings."""

    def install(
        *,
        dies_at: int = 0,
        broken: str = "pass",
        capabilities: tuple[str, ...] = ("hold", "peek", "lose"),
        lends: bool = True,
        unsupported: tuple[tuple[str, str], ...] = (),
        known_failures: tuple[tuple[str, str, str, str, str], ...] = (),
    ) -> None:
        site = tmp_path / "site"
        info = site / "crooked-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crooked\nVersion: 1.0\n")
        points = "[forge3d.backends]\ncrooked = crooked\n"
        if lends:
            points += "[forge3d.conformance]\ncrooked = crooked:Subject\n"
        (info / "entry_points.txt").write_text(points)
        (site / "crooked.py").write_text(
            PLUGIN.format(
                dies_at=dies_at,
                broken=broken,
                capabilities=capabilities,
                unsupported=unsupported,
                known_failures=known_failures,
            )
        )
        monkeypatch.setenv("PYTHONPATH", str(site))

    return install


@pytest.fixture
def run() -> Callable[..., Ran]:
    """Run the suite over a backend, in a process of its own."""
    return lambda *arguments: run_suite(arguments, lambda _event: None)
