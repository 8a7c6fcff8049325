"""The guide's programs follow on each other: run them all, in order, in one process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import forge3d_core
from forge3d_core.config.settings import Settings

ROOT = Path(forge3d_core.__file__).parents[1]
GUIDE = (ROOT / "docs" / "guide.md").read_text("utf-8")
PAGES = ["guide.md", "large-data.md", "tracing.md"]


def blocks(language: str, page: str = GUIDE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.M | re.S)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("backend", ["host", "wgpu", "cuda"], indirect=True)
def test_the_programs_run(backend: str, tmp_path: Path, name: str) -> None:
    # Each block is compiled at its own line of the page, so that a failure names it.
    page = (ROOT / "docs" / name).read_text("utf-8")
    program = ""
    for block in blocks("python", page):
        source = "\n" * page[: page.index(block)].count("\n") + block
        program += f"exec(compile({source!r}, {name!r}, 'exec'))\n"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FORGE3D_")}
    environ |= {
        "FORGE3D_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),  # without one Mesa complains on standard error
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr


def test_the_configuration_is_valid() -> None:
    def wrong(key: str, reason: str) -> Exception:
        return AssertionError(f"{key}: {reason}")

    for block in blocks("toml"):
        Settings.read(tomllib.loads(block), wrong)
    assert len(blocks("toml")) == 1


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
        for line in GUIDE.splitlines()
        if line.startswith("## ")
    }
    for target in re.findall(r"\]\(([^)]+)\)", GUIDE):
        if target.startswith("#"):
            assert target[1:] in headings, target
        else:
            assert (ROOT / "docs" / target).exists(), target
