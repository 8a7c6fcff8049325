"""A test's digest is of its own source and of what it calls beside it, and of nothing else."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from forge3d_conformance import clauses
from forge3d_conformance.fingerprint import _module, fingerprint

TEST = """
from __future__ import annotations

from forge3d_conformance.clauses.made_beside import helped

BOUND = 3


def mine(n: int) -> int:
    return n + BOUND


def other() -> None: ...


@mark("x")
def test_it() -> None:
    assert mine(helped()) == 4


def test_another() -> None: ...
"""
BESIDE = """
def helped() -> int:
    return inner()


def inner() -> int:
    return 1


def unused() -> None: ...
"""


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("test_made", "== 4", "== 5", True),
        ("test_made", 'mark("x")', 'mark("y")', True),
        ("test_made", "n + BOUND", "n - BOUND", True),
        ("test_made", "BOUND = 3", "BOUND = 4", True),
        ("made_beside", "return inner()", "return 2 * inner()", True),
        ("made_beside", "return 1", "return 2", True),
        ("test_made", "def other() -> None: ...", "def other() -> int: ...", False),
        ("test_made", "def test_another() -> None: ...", "def test_another() -> int: ...", False),
        ("made_beside", "def unused() -> None: ...", "def unused() -> int: ...", False),
    ],
)
def test_what_changes_a_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str, changes: bool
) -> None:
    monkeypatch.setattr(clauses, "__path__", [*clauses.__path__, str(tmp_path)])
    texts = {"test_made": TEST, "made_beside": BESIDE}

    def made() -> str:
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text, "utf-8")
        importlib.invalidate_caches()
        _module.cache_clear()
        return fingerprint("forge3d_conformance.clauses.test_made", "test_it")

    before = made()
    assert made() == before
    assert old in texts[file]
    texts[file] = texts[file].replace(old, new)
    assert (made() != before) is changes
    assert "forge3d_conformance.clauses.test_made" not in sys.modules
