"""What a test is made of: its source, and that of all it calls by name in the clauses' modules."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import attrs

from forge3d_conformance import clauses

Place = tuple[str, str]
"""A module of the clauses, and a name at its top."""


def fingerprint(module: str, name: str) -> str:
    """Return a digest of a test's source and of what it reaches by name, in its module and those beside it.

    It is of the text, comments included, so that it is the same under every Python. What tests share with
    the rest of the suite (the bench, the mutants) and the backend itself are no part of it.
    """
    reached: set[Place] = set()
    left = [(module, name)]
    while left:
        place = left.pop()
        if place not in reached:
            reached.add(place)
            left += _module(place[0]).reaches(place[1])
    texts = [f"{of}:{name}\n{_module(of).text(name)}" for of, name in sorted(reached)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


@attrs.frozen
class _Module:
    """The statements at the top of a module by the names that they bind, and what it imports from others."""

    name: str
    statements: Mapping[str, str]
    mentions: Mapping[str, frozenset[str]]
    imports: Mapping[str, Place]

    def text(self, name: str) -> str:
        return self.statements.get(name, "")

    def reaches(self, name: str) -> list[Place]:
        found = sorted(self.mentions.get(name, ()))
        own = [(self.name, other) for other in found if other in self.statements]
        return own + [self.imports[other] for other in found if other in self.imports]


@cache
def _module(name: str) -> _Module:
    spec = importlib.util.find_spec(name)
    source = Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""
    lines = source.splitlines()
    statements: dict[str, str] = {}
    mentions: dict[str, frozenset[str]] = {}
    imports: dict[str, Place] = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(clauses.__name__):
            imports.update({a.asname or a.name: (statement.module or "", a.name) for a in statement.names})
            continue
        nodes = list(ast.walk(statement))
        first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", ()))])
        text = "\n".join(lines[first - 1 : statement.end_lineno])
        read = frozenset(node.id for node in nodes if isinstance(node, ast.Name))
        for bound in _bound(statement):
            statements[bound] = statements.get(bound, "") + text
            mentions[bound] = mentions.get(bound, frozenset()) | read
    return _Module(name, statements, mentions, imports)


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a statement at the top of a module binds."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
