"""The tables of the document follow from the results beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge3d_conformance.errors import ReportError
from forge3d_conformance.report import Aim
from forge3d_conformance.speed.__main__ import performance
from forge3d_conformance.speed.results import read
from forge3d_conformance.speed.tables import BEGIN, END, with_tables

DOCUMENT = Path(__file__).parents[3] / "docs" / "performance.md"
RESULTS = DOCUMENT.with_suffix("")


def test_the_document_is_up_to_date() -> None:
    """When this fails, run: python -m forge3d_conformance.speed."""
    document = DOCUMENT.read_text("utf-8")
    assert with_tables(document, RESULTS) == document


def test_a_row_stands_beside_its_own_past() -> None:
    text = with_tables(f"head\n{BEGIN}\nold\n{END}\ntail\n", RESULTS)
    assert text.startswith("head\n")
    assert text.endswith(f"{END}\ntail\n")
    assert "old" not in text
    now, before = read(RESULTS / "cuda-h200.json"), read(RESULTS / "before" / "cuda-h200.json")
    key = ("upload", "cupy/set", 4096)
    then, today = ({row.key: row for row in report.rows}[key] for report in (before, now))
    line = f"| upload | 4,096 | cupy/set | {then.ratio:.2f} | {today.ratio:.2f} | ≤ 1.3 |"
    assert line in text


def test_a_table_says_how_many_targets_are_met() -> None:
    text = with_tables(f"{BEGIN}\n{END}\n", RESULTS)
    aims = [row.aim for row in read(RESULTS / "host.json").rows if row.aim is not None]
    met, missed = aims.count(Aim.MET), aims.count(Aim.MISSED)
    doubtful = len(aims) - met - missed
    assert f"{len(aims)} targets: {met} met, {missed} missed, {doubtful} inconclusive." in text


def test_a_document_without_room_for_tables_is_refused() -> None:
    with pytest.raises(ReportError, match="no <!-- tables"):
        with_tables("nothing here", RESULTS)


def test_a_newer_result_is_taken_in(tmp_path: Path) -> None:
    document, folder = tmp_path / "performance.md", tmp_path / "performance"
    folder.mkdir()
    document.write_text(f"{BEGIN}\n{END}\n", "utf-8")
    performance(document, take=[f"host={RESULTS / 'host.json'}"])
    assert read(folder / "host.json") == read(RESULTS / "host.json")
    assert "### host, two cores" in document.read_text("utf-8")
    with pytest.raises(ReportError, match="the document shows"):
        performance(document, take=["toaster=host.json"])
