"""``forge3d new-backend``, and the guide that fills in what it makes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import forge3d_core
from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.commands.new_backend import app
from forge3d_conformance.events import Event
from forge3d_conformance.running import Ran, run_suite
from forge3d_conformance.scaffold import Scaffold
from forge3d_core.errors import UsageError

GUIDE = (Path(forge3d_core.__file__).parents[1] / "docs" / "writing-a-backend.md").read_text("utf-8")
ROOMS = dict(re.findall(r"^<!-- (\w+\.py) -->\n```python\n(.*?)^```", GUIDE, re.M | re.S))
"""The guide's whole files: a backend called acme, on numpy and one thread."""

OURS = {"fence", "ring", "readback", "budget", "device", "plugin", "pipeline", "perf"}


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Scaffold the backend acme, fill in some of the guide's rooms, and install it for this test."""

    def install(*rooms: str) -> Path:
        root = Scaffold("acme").write(tmp_path)
        for room in rooms:
            (root / "src" / "forge3d_acme" / room).write_text(ROOMS[room], "utf-8")
        project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
        info = root / "src" / f"forge3d_acme-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        (info / "entry_points.txt").write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
                for group, points in project["entry-points"].items()
            )
        )
        monkeypatch.setenv("PYTHONPATH", str(root / "src"))
        return root

    return install


def run(clause: str = "*", level: str = "core") -> tuple[Ran, Event]:
    """Run the suite over acme; it must come to its end."""
    ran = run_suite(["--backend", "acme", "--clause", clause, "--level", level], lambda _event: None)
    assert ran.last is not None, ran.output
    return ran, ran.last


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "is no name"),
        ("Metal", "lower-case"),
        ("my-api", "single underscores"),
        ("9api", "a letter first"),
        ("a" * 41, "at most 40"),
        ("../up", "is no name"),
        ("metal\n", "is no name"),
        ("host", "built-in"),
        ("wgpu", "forge3d-wgpu"),
        ("core", "forge3d-core"),
        ("auto", "automatic choice"),
    ],
)
def test_a_bad_name_is_refused_and_nothing_is_written(name: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=complaint):
        Scaffold(name).write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_name_of_an_installed_backend_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "theirs-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[forge3d.backends]\nlevel-zero = theirs\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=r"by theirs 2\.0"):
        Scaffold("level_zero")


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "forge3d-acme" / "mine"
    mine.parent.mkdir()
    mine.write_text("precious")
    with pytest.raises(UsageError, match="is there already"):
        Scaffold("acme").write(tmp_path)
    assert mine.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["forge3d-acme"]
    with pytest.raises(UsageError, match="is no folder"):
        Scaffold("acme").write(mine)


def test_all_of_it_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scaffold, "contents", lambda _self: {"a": "a file", "a/b": "cannot lie in a file"})
    with pytest.raises(UsageError, match="cannot be made"):
        Scaffold("acme").write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "prefix", "distribution"),
    [("acme", "Acme", "forge3d-acme"), ("level_zero", "LevelZero", "forge3d-level-zero")],
)
def test_the_files_fit_together(name: str, prefix: str, distribution: str) -> None:
    contents = Scaffold(name).contents()
    project = tomllib.loads(contents["pyproject.toml"])["project"]
    assert project["name"] == distribution
    points = project["entry-points"]
    assert points["forge3d.backends"] == {name: f"forge3d_{name}.plugin"}
    assert points["forge3d.conformance"] == {name: f"forge3d_{name}.subject:{prefix}Subject"}
    assert f"class {prefix}Subject:" in contents[f"src/forge3d_{name}/subject.py"]
    for path, text in contents.items():
        assert "{{" not in text, path
        assert max(map(len, text.splitlines()), default=0) <= 122, path
        if path.endswith(".py"):
            compile(text, path, "exec")


WGPU_ALONE = {
    *("adapters.py", "guard.py", "opengl.py", "signals.py", "workgroup.py"),
    *("groups.py", "native.py", "params.py", "recording.py", "rendering.py", "sharing.py"),
}
"""Rooms for what wgpu alone has: APIs, interrupts in callbacks, shaders to reflect, bindings, passes."""

SPEED_ALONE = {"submission.py", "transfers.py", "textures.py"}
"""Rooms that a first version has as parts of lanes.py and memory.py."""


def test_it_has_the_rooms_of_our_backends() -> None:
    root = Path(forge3d_core.__file__).parents[1] / "backends" / "wgpu_backend" / "src" / "forge3d_wgpu"
    ours = {path.name for path in root.glob("*.py")}
    assert ours - WGPU_ALONE - SPEED_ALONE <= {Path(path).name for path in Scaffold("acme").contents()}


def test_the_command_says_what_to_do_next(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["acme", "--into", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "pip install -e" in done.output
    assert "forge3d conformance --backend acme" in done.output
    assert (tmp_path / "forge3d-acme" / "src" / "forge3d_acme" / "driver.py").is_file()
    (point,) = entry_points(group="forge3d.commands", name="new-backend")
    assert isinstance(point.load(), typer.Typer)


def test_the_guide_names_no_clause_that_is_not_there(catalogue: Catalogue) -> None:
    named = {id for id in re.findall(r"`([a-z]+\.[a-z-]+)`", GUIDE) if id.partition(".")[0] in OURS}
    named |= set(re.findall(r'\(\("([a-z]+\.[a-z-]+)"', GUIDE))
    assert len(named) > 10
    assert [id for id in sorted(named) if id not in catalogue and not id.endswith(".py")] == []


def test_the_guide_leaves_nothing_unwritten(acme: Callable[..., Path]) -> None:
    left = {
        path.name
        for path in (acme(*ROOMS) / "src").rglob("*.py")
        if "raise Unwritten" in path.read_text("utf-8")
    }
    assert not left


def test_the_bare_scaffold_fails_only_where_code_is_to_be_written(acme: Callable[..., Path]) -> None:
    acme()
    ran, end = run("budget.*")
    assert ran.status == 1
    states = {clause["id"]: clause["state"] for clause in end["clauses"]}
    assert states["budget.check"] == "pass"  # it takes no memory, only reservations
    assert states["budget.collected"] == "fail"
    for clause in end["clauses"]:
        if clause["state"] != "pass":
            assert "is still to be written" in clause["message"], clause


@pytest.mark.parametrize(
    ("written", "clause", "then"),
    [
        ((), "fence.wait-before-signal", "memory.py: DeviceMemory.buffer"),
        (("memory.py",), "fence.wait-before-signal", "lanes.py: Lanes.submit"),
        (("memory.py", "lanes.py"), "ring.source-captured", "staging.py: create_block"),
        (("memory.py", "lanes.py", "staging.py"), "ring.no-reuse-before-signal", "subject.py: hold"),
    ],
)
def test_each_failure_names_what_to_write_next(
    acme: Callable[..., Path], written: tuple[str, ...], clause: str, then: str
) -> None:
    acme(*written)
    ran, end = run(clause)
    assert ran.status == 1
    (result,) = end["clauses"]
    assert result["state"] == "fail"
    assert f"{then} is still to be written" in result["message"]


@pytest.mark.long
def test_the_guides_backend_is_conformant(acme: Callable[..., Path]) -> None:
    acme(*ROOMS)
    ran, end = run()
    assert end["reasons"] == []
    assert ran.status == 0
    assert end["verdict"] == "conformant"
    states = {clause["id"]: clause["state"] for clause in end["clauses"]}
    # It adopts nothing, and one native queue does not run lanes beside each other.
    assert {id for id, state in states.items() if state == "unsupported"} == {
        "device.adopt",
        "ring.no-head-of-line",
    }
    assert len(states) > 50


def test_the_guides_backend_adopts_nothing_and_says_so(acme: Callable[..., Path]) -> None:
    acme(*ROOMS)
    _ran, end = run("device.[ak]*", "full")
    assert {clause["id"]: clause["state"] for clause in end["clauses"]} == {
        "device.adopt": "unsupported",
        "device.adopt-order": "unsupported",
        "device.kernel-close": "pass",
        "device.kernel-errors": "pass",
    }


def test_a_fence_set_at_submit_is_found_out(acme: Callable[..., Path]) -> None:
    lanes = acme(*ROOMS) / "src" / "forge3d_acme" / "lanes.py"
    honest = lanes.read_text("utf-8")
    hasty = honest.replace(
        "self._queue.append(submission)", "self._queue.append(submission); submission.ended.set()"
    )
    assert hasty != honest
    lanes.write_text(hasty, "utf-8")
    _ran, end = run("fence.not-early")
    (result,) = end["clauses"]
    assert result["state"] == "fail"
    assert "Unwritten" not in result["message"]
