"""The pytest plugin: inert until ``--backend`` is given or a clause test is collected."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

MAX_JOBS = 256
"""Processes that a run may be shared out to."""


def _seed(text: str) -> int:
    seed = int(text)
    if seed < 0:
        raise argparse.ArgumentTypeError(f"a seed is a number from 0, not {seed}")
    return seed


def _jobs(text: str) -> int:
    jobs = int(text)
    if not 0 <= jobs <= MAX_JOBS:
        raise argparse.ArgumentTypeError(f"jobs are 0, which is what suits the device, to {MAX_JOBS}")
    return jobs


def _directory(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("name a directory for the report; '.' is this one")
    return Path(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("forge3d", "forge3d conformance")
    group.addoption("--backend", metavar="NAME[:SELECTOR]", help="the backend that clause tests run on")
    group.addoption(
        "--level", choices=("core", "full", "perf"), default="core", help="how much to test (core)"
    )
    group.addoption(
        "--clause", metavar="GLOB", action="append", help="test only the clauses that match; may be repeated"
    )
    group.addoption("--self-test", action="store_true", help="also show that every mutant is caught")
    group.addoption("--exact", metavar="GLOB", default="", help="lay these mutants under every test selected")
    group.addoption("--seed", type=_seed, default=0, metavar="N", help="seed of all random choices (0)")
    group.addoption("--jobs", type=_jobs, default=1, metavar="N", help="test in so many processes (1)")
    group.addoption(
        "--claims", type=Path, metavar="DIR", help="run what is not taken there: a worker's option"
    )
    group.addoption("--report", type=_directory, metavar="DIR", help="write the report there")
    group.addoption("--example", metavar="VERSION:BLOB", help="run properties on that example alone")
    group.addoption("--lifeline", type=int, metavar="FD", help="end when the other end of that pipe is gone")
    group.addoption("--events", type=Path, metavar="FILE", help="append what happens as JSON lines")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "clause(id, requires=(), alone=False): tests that clause of the conformance catalogue; "
        "requires replaces the capabilities that the catalogue names for it; "
        "alone has no other process of the run test beside it",
    )
    if config.getoption("--backend") is None:
        return
    from forge3d_conformance import fixtures
    from forge3d_conformance.control import listen
    from forge3d_conformance.errors import SetupError
    from forge3d_conformance.lifeline import end_with
    from forge3d_conformance.session import ClauseSession
    from forge3d_conformance.sharing import SharedLoop

    lifeline = config.getoption("--lifeline")
    listen(terminal=lifeline is None)
    if lifeline is not None:
        end_with(lifeline)

    try:
        session = ClauseSession.configured(config)
    except SetupError as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(fixtures, "forge3d-conformance-fixtures")
    config.pluginmanager.register(session, "forge3d-conformance-session")
    loop = SharedLoop(session, config.getoption("--jobs"), config.getoption("--claims"))
    config.pluginmanager.register(loop, "forge3d-conformance-loop")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--backend") is None and any(item.get_closest_marker("clause") for item in items):
        from forge3d_conformance.target import installed

        raise pytest.UsageError(
            "clause tests need a backend: add --backend NAME; installed: "
            + (", ".join(sorted(installed())) or "none")
        )
