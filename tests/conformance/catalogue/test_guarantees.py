"""The document that is made from the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.catalogue.__main__ import guarantees
from forge3d_conformance.catalogue.guarantees import render

DOCUMENT = Path(__file__).parents[3] / "docs" / "guarantees.md"


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(guarantees)
    return app


def test_the_document_is_the_catalogues(catalogue: Catalogue) -> None:
    assert DOCUMENT.read_text("utf-8") == render(catalogue), "run: python -m forge3d_conformance.catalogue"


def test_every_clause_has_its_heading_and_source(catalogue: Catalogue) -> None:
    text = render(catalogue)
    for clause in catalogue:
        assert f"### `{clause.id}`" in text
        assert clause.text in text
        assert clause.source in text


def test_check_tells_a_document_that_differs(app: typer.Typer, tmp_path: Path) -> None:
    document = tmp_path / "guarantees.md"
    run = CliRunner().invoke
    assert run(app, [str(document), "--check"]).exit_code == 1, "there is none yet"
    assert run(app, [str(document)]).exit_code == 0
    assert run(app, [str(document), "--check"]).exit_code == 0
    document.write_text(document.read_text("utf-8").replace("core", "kore", 1), "utf-8")
    assert run(app, [str(document), "--check"]).exit_code == 1
