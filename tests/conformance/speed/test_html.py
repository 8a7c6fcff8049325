"""The page of a measurement: it stands alone, shows every row, and says what it takes to be drawn."""

from __future__ import annotations

import builtins
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from forge3d_conformance.commands.bench import app
from forge3d_conformance.report import this_platform
from forge3d_conformance.speed.calls import CallCount
from forge3d_conformance.speed.html import need_matplotlib, render
from forge3d_conformance.speed.html.curves import UP, judged, latency, throughput, towards
from forge3d_conformance.speed.html.plots import amount
from forge3d_conformance.speed.results import Measured, Missing, SpeedReport
from forge3d_core.errors import MissingDependency


def row(ours: str, raw: str, size: int, seconds: tuple[float, float], target: float | None) -> Measured:
    ratio = seconds[1] / seconds[0]
    better, clause = "higher", "perf.upload-owned"
    return Measured(clause, ours, raw, size, better, ratio, ratio, ratio, target, *seconds, 5)


@pytest.fixture
def report() -> SpeedReport:
    rows = (
        row("upload", "cupy/set", 1_000_000, (1e-4, 2e-4), 1.0),
        row("upload", "cupy/pinned-up", 1_000_000, (1e-4, 5e-5), 0.65),
        row("upload", "cupy/pinned-up", 100_000_000, (4e-3, 2e-3), 0.65),
        row("read", "cupy/get", 4096, (3e-5, 1.5e-5), None),
        row("read-many", "cupy/get", 4096, (1e-5, 1.5e-5), None),
    )
    return SpeedReport(
        backend="cuda",
        adapter="<b>card</b>",
        driver="1",
        version="0.1.0",
        platform=this_platform(),
        seconds_per_row=1.0,
        rows=rows,
        missing=(Missing("upload", "torch/to-cuda", 1, "no torch"),),
        calls=(CallCount("submit", 12, 3),),
    )


def test_the_limit_is_the_best_copy_that_needs_no_other(report: SpeedReport) -> None:
    picture = throughput(report, UP)
    assert picture.limit == ("cupy/pinned-up", pytest.approx(5e10))
    curves = {curve.name: curve for curve in picture.curves}
    assert curves["forge3d upload"].points == ((1e6, pytest.approx(1e10)), (1e8, pytest.approx(2.5e10)))
    assert curves["forge3d upload"].ours
    assert not curves["cupy/set"].ours


def test_small_reads_are_placed_by_how_many_fly(report: SpeedReport) -> None:
    (curve,) = latency(report).curves
    assert [x for x, _ in curve.points] == [1, 512]
    assert latency(report).limit == ("cupy/get", 1.5e-5)


def test_what_misses_its_target_most_comes_first(report: SpeedReport) -> None:
    parts = [towards(each, each.ratio) for each in judged(report)]
    assert len(parts) == 3
    assert parts == sorted(parts)


def test_a_page_stands_alone_and_shows_every_row(report: SpeedReport) -> None:
    pytest.importorskip("matplotlib")
    page = render(report)
    assert page.count("<svg") == page.count("</svg>") == 3
    assert "<b>card</b>" not in page
    assert "no torch" in page
    assert page.count("<td>perf.upload-owned</td>") == len(report.rows)
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", page)
    assert not re.search(r"url\((?!#)", page)


def test_without_matplotlib_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = builtins.__import__

    def lacking(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(MissingDependency, match="forge3d-conformance"):
        need_matplotlib()
    ended = CliRunner().invoke(app, ["--backend", "host", "--html", str(tmp_path / "page")])
    assert ended.exit_code == 2
    assert "matplotlib" in ended.output


def test_the_command_writes_a_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    quick = ["--backend", "host", "--seconds", "0", "--size", "1000000", "--operation", "upload"]
    ended = CliRunner().invoke(app, [*quick, "--html", str(tmp_path / "page")])
    assert ended.exit_code in (0, 1), ended.output
    assert "<svg" in (tmp_path / "page" / "bench-host.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (4096, "4 KiB"),
        (1 << 30, "1 GiB"),
        (16_000_000, "16 MB"),
        (1e10, "10 GB"),
        (2e9, "2 GB"),
        (100, "100 B"),
    ],
)
def test_an_amount_is_told_in_round_numbers(value: float, told: str) -> None:
    assert amount(value) == told
