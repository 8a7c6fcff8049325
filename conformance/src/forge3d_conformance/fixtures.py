"""The fixture that every clause test takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.mutants import Mutant
from forge3d_conformance.trial import ClauseRun


@pytest.fixture
def mutant(request: pytest.FixtureRequest) -> Mutant | None:
    """The defect laid over the backend, or None; parametrized by ``--self-test``."""
    found: Mutant | None = getattr(request, "param", None)
    return found


@pytest.fixture
def bench(request: pytest.FixtureRequest, mutant: Mutant | None) -> Iterator[Bench]:
    """A fresh bench over the backend under test."""
    session: Any = request.config.pluginmanager.get_plugin("forge3d-conformance-session")
    name = request.node.nodeid.partition("[")[0]
    made = Bench(session.target, name, session.level, session.seed, mutant)
    made.example = session.example
    if (trial := ClauseRun.of(request.node)) is not None:
        trial.bench = made
    yield made
    made.close()
