"""Runs that are shared out: each part is run once, and a worker that dies is told of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forge3d_conformance.running import run_suite
from forge3d_conformance.workers import Claims, sensible_jobs


def test_a_part_is_taken_once(tmp_path: Path) -> None:
    first, second = Claims(tmp_path), Claims(tmp_path)
    assert first.take("a/mutant")
    assert not second.take("a/mutant")
    assert second.take("another")


def test_a_device_that_is_no_processor_is_shared_by_few() -> None:
    assert 1 <= sensible_jobs("discrete", 1000) <= 4
    assert sensible_jobs("cpu", 1000) >= sensible_jobs("discrete", 1000)


def test_a_few_tests_are_not_shared_out() -> None:
    assert sensible_jobs("cpu", 15) == sensible_jobs("cpu", 0) == 1


def test_two_workers_run_each_test_once_and_prove_what_one_does() -> None:
    told: list[dict[str, Any]] = []
    ran = run_suite(
        ["--backend", "host", "--clause", "fence.not-early,ring.wraps", "--self-test", "--jobs", "2"],
        told.append,
    )
    assert ran.holds, ran.output
    assert ran.last is not None
    assert {clause["state"] for clause in ran.last["clauses"]} == {"pass"}
    assert {mutant["outcome"] for mutant in ran.last["mutants"]} == {"killed"}
    tests = [(event["test"], event["mutant"]) for event in told if event["event"] == "test"]
    assert len(set(tests)) == len(tests)
    starts = sum(event["event"] == "start" for event in told)
    assert starts == next(event["tests"] for event in told if event["event"] == "begin")


def test_what_is_to_be_alone_runs_last_and_once() -> None:
    told: list[dict[str, Any]] = []
    ran = run_suite(
        ["--backend", "host", "--clause", "device.exit,device.fork,fence.truth", "--jobs", "2"], told.append
    )
    assert ran.holds, ran.output
    begun = [event["clause"] for event in told if event["event"] == "start"]
    assert begun.count("device.exit") == 1
    assert begun[-1] == "device.exit"
    ended = [event["clause"] for event in told if event["event"] == "test"]
    assert ended[-1] == "device.exit"
    assert ended.count("device.fork") == 1


@pytest.mark.parametrize("jobs", ["2", "3"])
def test_a_worker_that_dies_leaves_no_success(crooked: Callable[..., None], jobs: str) -> None:
    crooked(dies_at=3)
    ran = run_suite(["--backend", "crooked", "--clause", "fence.*", "--jobs", jobs], lambda _event: None)
    assert not ran.holds
    assert ran.last is None, "what some of its workers did not come to an end of has no result"
    assert "was ended by signal 9 while testing fence." in ran.output
