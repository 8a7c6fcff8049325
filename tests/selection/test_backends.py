"""``forge3d backends``: what people see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import forge3d_core

ROOT = Path(forge3d_core.__file__).parents[1]


def test_every_plugin_its_state_its_fix_and_its_devices(site):
    site.install("gpu")
    site.install("half", "import no_such_library")
    done = site.cli("backends", FORGE3D_DENY="wgpu,cuda,host")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "gpu available forge3d-gpu 1.0" in text
    assert "half missing dependency forge3d-half 1.0" in text
    assert "half needs no_such_library" in text
    assert '\n  fix: pip install "no_such_library"\n' in done.stdout
    assert "gpu:0 tiny 0" in text
    assert "simulator, score 1000" in text
    assert all(line == line.rstrip() for line in done.stdout.splitlines())  # piped: nothing is padded


def test_a_published_backend_that_is_not_installed_says_how(site):
    code = (
        "import forge3d_core.cli.backends as b; from forge3d_core.plugins.registry import Registry\n"
        "b.REGISTRY = Registry(discovery=tuple); b.backends(as_json=True)"
    )
    done = site.run("-c", code)
    told = {b["name"]: b for b in json.loads(done.stdout)["backends"]}
    assert {b["state"] for b in told.values()} == {"unknown"}
    assert set(told) == {"cuda", "host", "wgpu"}
    for name in ("cuda", "wgpu"):  # from the clone, as no index has it
        folder = ROOT / "backends" / f"{name}_backend"
        assert (folder / "pyproject.toml").is_file()
        assert told[name]["fix"] == f"pip install -e {folder}"


def test_a_wrong_configuration_is_one_line_and_exit_2(site):
    (site.folder / "forge3d.toml").write_text("bakend = 1\n", "utf-8")
    done = site.cli("backends")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("forge3d: ")
    assert done.stderr.endswith("forge3d.toml:1: unknown key 'bakend'; did you mean 'backend'?\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_is_one_line_and_exit_2(site):
    code = (
        "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\nfrom forge3d_core.cli import main; main()"
    )
    done = site.run("-c", code, "backends")
    assert done.returncode == 2
    assert done.stderr == "forge3d: OSError: [Errno 28] No space left on device\n"


def test_version_and_help(site):
    version = site.cli("--version")
    assert version.returncode == 0
    assert version.stdout.startswith("forge3d-core ")
    assert "plugin API 1.0" in version.stdout
    usage = site.cli("--help")
    assert usage.returncode == 0
    for command in ("backends", "explain", "demo"):
        assert command in usage.stdout
