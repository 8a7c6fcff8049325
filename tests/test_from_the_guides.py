"""Each name of the guides that forge3d comes from has a row, and what the row names is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import attrs
import pytest

import forge3d_core

PAGE = Path(forge3d_core.__file__).parents[1] / "docs" / "from-the-guides.md"
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in PAGE.read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| guide ")
]
GUIDES = ("staging rings", "async readback", "async operations", "async pipeline", "memory management")


def resolved(path: str) -> Any:
    """Return what a dotted path names: a module, and attributes below it."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise AssertionError(path)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1].strip("`"))
def test_what_a_row_names_is_there(row: tuple[str, ...]) -> None:
    guide, name, here, _note = row
    assert guide in GUIDES
    found = resolved(here.strip("`"))
    names = re.findall(r"[a-z][a-z_]+", name) if re.fullmatch(r"`[a-z_, ]+`", name) else []
    fields = {field.name for field in attrs.fields(found)} if attrs.has(found) else set()
    if fields and names and names != ["telemetry"]:
        assert set(names) <= fields, f"{here} has no {set(names) - fields}"


@pytest.mark.parametrize("guide", GUIDES)
def test_every_guide_has_its_rows(guide: str) -> None:
    assert sum(row[0] == guide for row in ROWS) >= 15
