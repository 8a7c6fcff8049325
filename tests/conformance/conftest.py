"""Reports of runs that took place nowhere but are right in every detail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import settings

from forge3d_conformance.catalogue import Catalogue, Clause, load
from forge3d_conformance.inventory import ClauseTest, Inventory
from forge3d_conformance.mutants import Layer, Mutant
from forge3d_conformance.report import (
    BackendIdentity,
    ClauseResult,
    MutantResult,
    Outcome,
    PerfResult,
    Report,
    State,
    begin,
    finish,
)

settings.register_profile(
    "steady", deadline=None, derandomize=True, max_examples=40
)  # the same ones each time
settings.load_profile("steady")

IDENTITY = BackendIdentity(
    name="host", distribution="forge3d-core", version="0.1.0", adapter="numpy", driver="threads", kind="cpu"
)

EVIDENCE: dict[State, dict[str, str]] = {
    State.PASS: {},
    State.FAIL: {"message": "expected 1, found 2", "repro": "forge3d conformance --clause this"},
    State.UNEXPECTED_PASS: {"message": "declared to fail, and passed"},
    State.KNOWN_FAILURE: {"reason": "the driver prints at exit", "key": "adapter numpy"},
    State.INCONCLUSIVE: {"reason": "the lane could not be held"},
    State.UNSUPPORTED: {"reason": "the device cannot be lost"},
    State.NOT_RUN: {"reason": "interrupted"},
}

MUTANTS = {"wraps/never": "ring.wraps", "stats/drift": "ring.stats", "lost/asleep": "device.lost"}


def outcome(clause: Clause, state: State, **changes: Any) -> ClauseResult:
    tests = ("test_it",) if state.tested else ()
    evidence: dict[str, Any] = {"tests": tests, "examples": len(tests), "seconds": 0.001, **EVIDENCE[state]}
    return ClauseResult(clause.id, clause.level, state, **{**evidence, **changes})


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return load()


@pytest.fixture(scope="session")
def unbuilt(catalogue: Catalogue) -> Catalogue:
    """The catalogue as it would be with ``pipeline.overlap`` only planned."""
    clauses = (attrs.evolve(c, status="planned") if c.id == "pipeline.overlap" else c for c in catalogue)
    return attrs.evolve(catalogue, clauses=tuple(clauses))


@pytest.fixture(scope="session")
def inventory(catalogue: Catalogue) -> Inventory:
    """A suite in which ``test_it`` tests every clause, with a few mutants."""
    return Inventory(
        {clause.id: (ClauseTest("test_it"),) for clause in catalogue.select(status="active")},
        {clause: (Mutant(name, clause, re.compile("a defect"), Layer),) for name, clause in MUTANTS.items()},
    )


@pytest.fixture(scope="session")
def self_test() -> Callable[..., tuple[MutantResult, ...]]:
    """Make the results of all those mutants: killed, but for ``others``."""

    def make(others: dict[str, Outcome] | None = None) -> tuple[MutantResult, ...]:
        found = {**dict.fromkeys(MUTANTS, Outcome.KILLED), **(others or {})}
        return tuple(
            MutantResult(name, MUTANTS[name], "a defect", state, ("test_it",))
            if state is Outcome.KILLED
            else MutantResult(name, MUTANTS[name], "a defect", state, (), "so it went")
            for name, state in found.items()
        )

    return make


@pytest.fixture(scope="session")
def result() -> Callable[..., ClauseResult]:
    """Make a result with the evidence that its state needs."""
    return outcome


@pytest.fixture(scope="session")
def run(catalogue: Catalogue, inventory: Inventory) -> Callable[..., Report]:
    """Make the report of a run in which all passed, but for ``states``."""

    def make(
        states: dict[str, State] | None = None,
        *,
        level: Any = "core",
        mutants: tuple[MutantResult, ...] = (),
        performance: tuple[PerfResult, ...] = (),
        results: dict[str, ClauseResult] | None = None,
        identity: BackendIdentity = IDENTITY,
        selection: str = "*",
        lacking: Collection[str] = ("lose", "adopt", "concurrent_lanes"),
    ) -> Report:
        begun = begin(
            catalogue,
            identity,
            level=level,
            seed=7,
            capabilities=catalogue.capabilities.keys() - set(lacking),
            selection=selection,
        )
        found = {c.id: outcome(c, State.PASS) for c in catalogue.binding(level, selection)}
        for id, state in (states or {}).items():
            found[id] = outcome(catalogue[id], state)
        found.update(results or {})
        return finish(
            begun,
            catalogue,
            [attrs.evolve(each, digest=inventory.digest_of(catalogue[each.id])) for each in found.values()],
            suite_digest=inventory.digest,
            mutants=mutants,
            performance=performance,
        )

    return make


@pytest.fixture(scope="session")
def begun(catalogue: Catalogue) -> Report:
    """The report of a run that has just begun, or was killed."""
    return begin(catalogue, IDENTITY, level="core", seed=7, capabilities=catalogue.capabilities)


@pytest.fixture(scope="session")
def survivor() -> MutantResult:
    return MutantResult("wraps/never", "ring.wraps", "a ring that never wraps", Outcome.SURVIVED)


@pytest.fixture(scope="session")
def speed() -> Callable[..., PerfResult]:
    def make(ratio: float = 3.4, spread: float = 0.1, **changes: Any) -> PerfResult:
        values: dict[str, Any] = {
            "clause": "perf.upload-owned",
            "case": "100 MB",
            "baseline": "queue.write_buffer",
            "ratio": ratio,
            "low": ratio - spread,
            "high": ratio + spread,
            "target": 3.0,
            "ours_seconds": 0.018,
            "raw_seconds": 0.062,
            "samples": 40,
        }
        return PerfResult(**{**values, **changes})

    return make


COMMAND = "from forge3d_core.cli import main; main()"
STRANGERS = Path(__file__).parents[1] / "third_party"


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install the right stranger and the wrong ones with pip; return the environment that finds them."""
    site = tmp_path_factory.mktemp("strangers")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FORGE3D_")}
    installed = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--no-index", "--disable-pip-version-check", "--target", str(site)),
            *map(str, (STRANGERS, *sorted((STRANGERS / "wrong").iterdir()))),
        ],
        env=environ | {"PYTHONPATH": str(STRANGERS)},  # where the build backend of all of them lies
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    return environ | {"PYTHONPATH": str(site), "XDG_CONFIG_HOME": str(site), "COLUMNS": "200"}


@pytest.fixture
def forge3d(strangers: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``forge3d`` in a process of its own and far from this repository, with the strangers installed."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", COMMAND, *map(str, arguments)],
            cwd=tmp_path,
            env=strangers,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=600,  # the limit of a long test; the others' is shorter
            check=False,
        )

    return run
