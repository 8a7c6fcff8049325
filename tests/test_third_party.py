"""A stranger's backend, built and installed as its own distribution, on equal terms with ours."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import forge3d_core

ROOT = Path(forge3d_core.__file__).parents[1]
STRANGER = Path(__file__).parent / "third_party"
ALLOWED = {"forge3d_core.protocols", "forge3d_core.errors", "forge3d_core.hookspecs"}

LOOP = """
import sys
import numpy as np
import forge3d_core as forge3d
from forge3d_core.demo import Terrain, shade_terrain

x, y = np.meshgrid(np.linspace(0, 9, 132), np.linspace(0, 7, 101))
terrain = Terrain((300 * np.sin(x) * np.cos(y)).astype(np.float32), 80.0, 90.0)
with forge3d.open_device() as device:
    assert type(device).__module__.startswith("stranger."), type(device)
    assert isinstance(device, forge3d.Device)
    picture, report = shade_terrain(device, terrain, side=32, ring_count=2, buffer_size="8 KiB")
assert report.backend == "stranger" and report.tiles == 20 and report.correct, report
assert picture.std() > 10
print("shaded", report.tiles)
"""

USES_ALL = """
import asyncio
import numpy as np
import forge3d_core as forge3d

with forge3d.open_device() as device:
    data = np.arange(5000, dtype=np.float32)
    buffer = device.create_buffer(data.nbytes)
    texture = device.create_texture(7, 5, "rg16uint")
    with device.staging_ring(ring_count=2, buffer_size=512) as ring, device.readback_pool() as pool:
        ring.upload(data, buffer).wait(10)
        assert (pool.read(buffer, dtype="f4").wait(10) == data).all()
        texels = np.arange(70, dtype=np.uint16).reshape(5, 7, 2)
        ring.upload(texels, texture)
        assert (pool.read(texture).wait(10) == texels).all()
        assert (pool.read(texture, origin=(2, 1), size=(3, 2)).wait(10) == texels[1:3, 2:5]).all()

        slot = ring.reserve(16)
        kept, view = slot.array("u4"), slot.view
        derived = view[3:]
        try:
            slot.commit(buffer)
        except forge3d.ViewHeld:
            del derived
        slot.commit(buffer)
        assert kept.size == 0 and not kept.flags.writeable
        try:
            slot.view
        except forge3d.SliceSpent:
            pass

        with pool.read(buffer, nbytes=64).lease(10) as shown:
            assert shown.nbytes == 64 and not shown.flags.writeable
        assert pool.stats().pending_operations == 0

        async def both():
            return await asyncio.gather(pool.read(buffer, offset=4), pool.read(buffer, offset=8))

        first, second = asyncio.run(both())
        assert (first[4:] == second).all()
    device.wait_idle(10)  # the ring submitted at its close what was still committed
    assert device.budget.metrics().host_visible_bytes == 0
print("all of it")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip has installed the stranger's distribution into."""
    folder = tmp_path_factory.mktemp("site")
    installed = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--no-index", "--disable-pip-version-check", "--target", str(folder), str(STRANGER)),
        ],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    (folder / "forge3d.toml").write_text('backend = "stranger"\n', "utf-8")
    return folder


def run(site: Path, *command: str) -> str:
    """Run Python in the site, where a configuration file chooses the stranger."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FORGE3D_")}
    environ |= {
        "PYTHONPATH": os.pathsep.join((str(site), str(ROOT))),
        "XDG_CONFIG_HOME": str(site / "config"),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=site,
        env=environ,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_another_distribution(site: Path) -> None:
    assert (site / "stranger" / "device.py").is_file()
    metadata = (site / "stranger_backend-1.0.dist-info" / "METADATA").read_text("utf-8")
    assert "Name: stranger-backend" in metadata


def test_it_is_found_selected_by_the_file_and_runs_the_demos_loop(site: Path) -> None:
    assert "shaded 20" in run(site, "-c", LOOP)


def test_it_keeps_the_contracts_that_a_program_leans_on(site: Path) -> None:
    assert "all of it" in run(site, "-c", USES_ALL)


@pytest.mark.adapter
def test_the_command_line_shows_it(site: Path) -> None:
    listing = json.loads(run(site, "-c", "from forge3d_core.cli import main; main()", "backends", "--json"))
    stranger = next(one for one in listing["backends"] if one["name"] == "stranger")
    assert stranger["state"] == "available"
    assert stranger["devices"][0]["name"] == "one thread"
    explained = run(site, "-c", "from forge3d_core.cli import main; main()", "explain")
    assert "stranger" in explained
    assert "forge3d.toml" in explained


def test_it_takes_nothing_of_ours_but_the_contract() -> None:
    modules = set()
    for path in (STRANGER / "src").rglob("*.py"):
        ours, nodes = set(), list(ast.walk(ast.parse(path.read_text("utf-8"))))
        for node in nodes:
            assert not (isinstance(node, ast.Import) and "forge3d" in ast.unparse(node)), path
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("forge3d"):
                modules.add(node.module)
                ours |= {alias.asname or alias.name for alias in node.names}
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                assert ours.isdisjoint(ast.unparse(base) for base in node.bases), f"{node.name} inherits"
    assert modules == ALLOWED
