"""Ratios follow from the samples alone; no test here looks at a clock."""

from __future__ import annotations

import numpy as np
import pytest

from forge3d_conformance.report import Aim
from forge3d_conformance.speed.contestant import Runner
from forge3d_conformance.speed.results import Measured
from forge3d_conformance.speed.sampling import MIN_ROUNDS, Samples, sample


def measured(low: float, ratio: float, high: float, target: float | None, better: str = "higher") -> Measured:
    return Measured("perf.tax", "upload", "cupy/set", 8, better, ratio, low, high, target, 1.0, 1.0, 5)


def test_a_ratio_is_of_medians_and_lies_in_its_interval() -> None:
    samples = Samples({"a": np.array([4.0, 4.0, 400.0, 4.0, 4.0]), "b": np.array([2.0, 2.0, 2.0, 2.0, 9.0])})
    ratio, low, high = samples.ratio("a", "b")
    assert ratio == 2.0
    assert low <= 2.0 <= high


def test_what_never_varies_has_an_interval_of_no_width() -> None:
    samples = Samples({"a": np.full(9, 3.0), "b": np.full(9, 1.0)})
    assert samples.ratio("a", "b") == (3.0, 3.0, 3.0)


def test_what_varies_has_a_wide_interval() -> None:
    noisy = np.random.default_rng(0).uniform(1, 10, 15)
    _, low, high = Samples({"a": noisy, "b": np.ones(15)}).ratio("a", "b")
    assert high - low > 1


@pytest.mark.parametrize(
    ("row", "aim"),
    [
        (measured(1.1, 1.2, 1.3, 1.0), Aim.MET),
        (measured(0.7, 0.8, 0.9, 1.0), Aim.MISSED),
        (measured(0.9, 1.0, 1.1, 1.0), Aim.INCONCLUSIVE),
        (measured(0.7, 0.8, 0.9, 1.0, "lower"), Aim.MET),
        (measured(1.1, 1.2, 1.3, 1.0, "lower"), Aim.MISSED),
        (measured(1.1, 1.2, 1.3, None), None),
    ],
)
def test_the_interval_decides(row: Measured, aim: Aim | None) -> None:
    assert row.aim is aim


def test_all_are_called_in_every_round_settled_and_in_no_fixed_order() -> None:
    said: list[str] = []
    runners = {
        name: Runner(lambda name=name: said.append(name), lambda name=name: said.append(f"{name} settled"))
        for name in ("a", "b")
    }
    samples = sample(runners, 0.0)
    assert {len(values) for values in samples.seconds.values()} == {MIN_ROUNDS}
    for name in runners:
        assert said.count(f"{name} settled") >= MIN_ROUNDS
    rounds = [entry for entry in said if entry.endswith("settled")][-2 * MIN_ROUNDS :]
    firsts = {rounds[place] for place in range(0, len(rounds), 2)}
    assert len(firsts) == 2


def test_time_is_told_for_one_of_the_operations_that_a_call_does(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def tick() -> None:
        now[0] += 8.0

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    samples = sample({"eight": Runner(tick, operations=8)}, 0.0)
    assert samples.median("eight") == 1.0


def test_what_has_to_be_settled_is_settled_after_each_call() -> None:
    said: list[str] = []
    sample({"a": Runner(lambda: said.append("call"), lambda: said.append("settle"), at_once=1)}, 0.0)
    assert said == ["call", "settle"] * (len(said) // 2)


def test_what_has_a_clock_of_its_own_says_its_seconds() -> None:
    said = iter([9.0, *[2.0] * MIN_ROUNDS])  # the first warms up
    samples = sample({"own": Runner(lambda: next(said), own_clock=True)}, 0.0)
    assert samples.median("own") == 2.0
