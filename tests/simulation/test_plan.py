"""What a seed does is the same on any machine, and no two do the same."""

from __future__ import annotations

import pytest

from forge3d_core.errors import UsageError
from forge3d_core.host.options import parse_selector
from forge3d_core.simulation.plan import faults_of, trial


def test_a_seed_is_the_same_each_time_and_its_selector_parses() -> None:
    trials = [trial(seed, ("refusals", "losses")) for seed in range(1, 200)]
    assert trials == [trial(seed, ("refusals", "losses")) for seed in range(1, 200)]
    assert len({each.selector for each in trials}) == len(trials)
    for each in trials:
        options = parse_selector(each.selector.partition(":")[2])
        assert options.chaos
        assert options.seed == each.seed
        assert (options.oom_at is not None) == (each.fault == "refusals")
        assert (options.lose_after is not None) == (each.fault == "losses")
    assert {each.fault for each in trials} == {None, "refusals", "losses"}


def test_without_faults_there_are_none() -> None:
    assert all(trial(seed).fault is None for seed in range(1, 100))
    assert {"latency" in trial(seed).selector for seed in range(1, 10)} == {True, False}


def test_faults_by_name() -> None:
    assert faults_of(["losses", "refusals"]) == ("refusals", "losses")
    with pytest.raises(UsageError, match="refusals, losses"):
        faults_of(["fire"])
    with pytest.raises(UsageError):
        trial(-1)
