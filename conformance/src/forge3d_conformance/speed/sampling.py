"""Interleaved timing: all contestants in each round, in an order that changes, medians with an interval."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import cast

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.speed.contestant import Runner

SAMPLE_SECONDS = 2e-3
"""A sample is as many calls as take about this long, so that the clock's own cost does not show."""

MIN_ROUNDS = 5
WARM_UP = 3
RESAMPLES = 2000
CONFIDENCE = 0.95


@attrs.frozen(eq=False)
class Samples:
    """Seconds per operation of each contestant, one row per round."""

    seconds: Mapping[str, NDArray[np.float64]]

    def median(self, name: str) -> float:
        return float(np.median(self.seconds[name]))

    def ratio(self, over: str, under: str, seed: int = 0) -> tuple[float, float, float]:
        """Return the ratio of two medians with the ends of its bootstrap interval.

        Rounds are resampled whole, as what disturbs one contestant in a round disturbs its neighbours.
        """
        upper, lower = self.seconds[over], self.seconds[under]
        picks = np.random.default_rng(seed).integers(0, len(upper), (RESAMPLES, len(upper)))
        ratios = np.median(upper[picks], axis=1) / np.median(lower[picks], axis=1)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(ratios, (tail, 1 - tail))
        middle = self.median(over) / self.median(under)
        return middle, min(float(low), middle), max(float(high), middle)


def sample(runners: Mapping[str, Runner], seconds: float, seed: int = 0) -> Samples:
    """Time ``runners`` in turn for about ``seconds`` in all, and at least five rounds.

    The garbage collector is kept out of the samples and runs between rounds.
    """
    calls = {name: _calls(runner) for name, runner in runners.items()}
    order = np.random.default_rng(seed)
    taken: dict[str, list[float]] = {name: [] for name in runners}
    names = list(runners)
    deadline = time.perf_counter() + seconds
    rounds = 0
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        while rounds < MIN_ROUNDS or time.perf_counter() < deadline:
            for name in order.permutation(names):
                taken[name].append(_time(runners[name], calls[name]))
            rounds += 1
    finally:
        if enabled:
            gc.enable()
    return Samples({name: np.array(values) for name, values in taken.items()})


def _time(runner: Runner, calls: int) -> float:
    call = runner.call
    if runner.own_clock:
        elapsed = sum(float(cast(float, call())) for _ in range(calls))
        runner.settle()
        return elapsed / (calls * runner.operations)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    elapsed = time.perf_counter() - start
    runner.settle()
    return elapsed / (calls * runner.operations)


def _calls(runner: Runner) -> int:
    """Warm up, and return how many calls make one sample."""
    if runner.own_clock:
        _time(runner, 1)
        return 1
    spent = min(_time(runner, 1) for _ in range(WARM_UP)) * runner.operations
    return max(1, min(runner.at_once, round(SAMPLE_SECONDS / max(spent, 1e-9))))
