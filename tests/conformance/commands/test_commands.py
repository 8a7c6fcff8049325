"""``forge3d verify`` and ``forge3d diff`` as they are run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import attrs
import pytest
import typer
from typer.testing import CliRunner

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.commands.diff import app as diff
from forge3d_conformance.commands.verify import app as verify
from forge3d_conformance.errors import ReportError
from forge3d_conformance.inventory import Inventory
from forge3d_conformance.report import (
    ClauseResult,
    MutantResult,
    Outcome,
    PerfResult,
    Report,
    State,
    publish,
)

Publish = Callable[..., Path]


@pytest.fixture
def published(
    catalogue: Catalogue,
    inventory: Inventory,
    run: Callable[..., Report],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Publish:
    monkeypatch.setattr("forge3d_conformance.inventory.take", lambda: inventory)

    def write(name: str, report: Report | None = None) -> Path:
        return publish(report or run(), catalogue, tmp_path / name)

    return write


def _run(app: typer.Typer, *arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, " ".join(done.output.split())


def test_a_pass_verifies(published: Publish) -> None:
    code, text = _run(verify, published("a"))
    assert code == 0
    assert "✓ conformant" in text


def test_two_devices_of_one_name_are_told_apart(published: Publish, run: Callable[..., Report]) -> None:
    other = attrs.evolve(run().backend, selector="opengl:0", driver="OpenGL, 4.5")
    assert "numpy (threads)" in _run(verify, published("a"))[1]
    shown = _run(verify, published("b", run(identity=other)))[1]
    assert "host:opengl:0 (forge3d-core 0.1.0) on numpy (OpenGL, 4.5)" in shown


def test_a_failure_verifies_with_its_reasons(published: Publish, run: Callable[..., Report]) -> None:
    code, text = _run(verify, published("a", run({"ring.wraps": State.FAIL})).parent)
    assert code == 1
    assert "✕ nonconformant" in text
    assert "ring.wraps fails" in text


def test_an_edited_report_does_not(published: Publish) -> None:
    path = published("a")
    path.write_bytes(path.read_bytes().replace(b'"seed": 7', b'"seed": 9'))
    code, text = _run(verify, path)
    assert code == 2
    assert "digest does not match" in text
    assert "conformant" not in text.replace("forge3d-conformance", "").replace(str(path), "")


def test_a_report_that_is_not_there_does_not(tmp_path: Path) -> None:
    assert _run(verify, tmp_path / "none.json")[0] == 2


def test_of_several_reports_the_worst_decides(published: Publish, run: Callable[..., Report]) -> None:
    good, bad = published("a"), published("b", run({"ring.wraps": State.NOT_RUN}))
    code, text = _run(verify, good, bad, "--json")
    assert code == 1
    found = json.loads(text)
    assert [entry["conformant"] for entry in found] == [True, False]
    assert "ring.wraps" in found[1]["reasons"][0]


def test_an_exception_is_never_silent(published: Publish, run: Callable[..., Report]) -> None:
    code, text = _run(verify, published("a", run({"device.lost": State.UNSUPPORTED})))
    assert code == 0
    assert "not vouched for: device.lost" in text


def test_the_mutation_score_is_shown(
    published: Publish,
    run: Callable[..., Report],
    self_test: Callable[..., tuple[MutantResult, ...]],
) -> None:
    assert "self-test: none was run" in _run(verify, published("a"))[1]
    some = run(mutants=self_test({"lost/asleep": Outcome.NOT_APPLICABLE, "stats/drift": Outcome.NOT_RUN}))
    code, text = _run(verify, published("b", some))
    assert code == 1
    assert "self-test: 1 of 2 mutants killed, 1 not applicable" in text
    (entry,) = json.loads(_run(verify, published("b", some), "--json")[1])
    assert entry["mutants"] == {"killed": 1, "survived": 0, "not_applicable": 1, "not_run": 1}


def test_equal_reports_do_not_differ(published: Publish, run: Callable[..., Report]) -> None:
    report = run()
    code, text = _run(diff, published("a", report), published("b", report))
    assert code == 0
    assert "Clauses: none differs" in text
    assert "Mutants: not compared, for want of a self-test in both reports" in text


def test_differences_are_shown(
    published: Publish, run: Callable[..., Report], speed: Callable[..., PerfResult]
) -> None:
    left = published("a", run({"ring.wraps": State.FAIL}, performance=(speed(2.0),)))
    right = published("b", run(performance=(speed(4.0),)))
    code, text = _run(diff, left, right)
    assert code == 1
    for word in ("ring.wraps", "fail", "expected 1, found 2", "nonconformant", "apart, by 2×"):
        assert word in text
    code, text = _run(diff, left, right, "--json")
    found = json.loads(text)
    assert code == 1
    assert not found["same"]
    assert [clause["id"] for clause in found["clauses"]] == ["ring.wraps"]
    assert found["speeds"][0]["intervals"] == "apart"


def test_a_report_that_cannot_be_read_is_not_a_difference(published: Publish, tmp_path: Path) -> None:
    code, text = _run(diff, published("a"), tmp_path / "none.json")
    assert code == 2
    assert "none.json" in text


def test_markup_in_a_report_is_not_obeyed(
    catalogue: Catalogue,
    published: Publish,
    run: Callable[..., Report],
    result: Callable[..., ClauseResult],
) -> None:
    failure = result(catalogue["ring.wraps"], State.FAIL, message="[/bold] list[int] [red]")
    path = published("a", run(results={"ring.wraps": failure}))
    assert "[/bold] list[int] [red]" in _run(diff, path, published("b"))[1]


@pytest.mark.parametrize("name", ["diff", "verify"])
def test_the_forge3d_command_finds_them(name: str) -> None:
    (point,) = entry_points(group="forge3d.commands", name=name)
    assert isinstance(point.load(), typer.Typer)


def test_text_in_a_report_forges_no_line(published: Publish, run: Callable[..., Report]) -> None:
    report = run()
    adapter = "GPU\n  \u2713 conformant\x1b[2K\u202e"
    forged = attrs.evolve(report, backend=attrs.evolve(report.backend, adapter=adapter))
    done = CliRunner().invoke(verify, [str(published("a", forged))])
    lines = done.output.splitlines()
    assert all(line.isprintable() for line in lines)
    assert sum(line.strip().startswith("\u2713 conformant") for line in lines) == 1
    assert r"GPU\n" in done.output


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["fifo", "zero"])
def test_what_is_no_regular_file_is_no_report(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "report.json")
    code, text = _run(verify, tmp_path / "report.json")
    assert code == 2
    assert "is no regular file" in text


def test_a_report_of_any_size_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "report.json").open("wb") as file:
        file.truncate(40 << 20)
    code, text = _run(verify, tmp_path)
    assert code == 2
    assert "larger than 32 MiB" in text


def test_a_selection_of_any_length_is_refused(run: Callable[..., Report]) -> None:
    with pytest.raises(ReportError, match="a selection of 60000 characters"):
        attrs.evolve(run(), selection="*," * 30_000)
