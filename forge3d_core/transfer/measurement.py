"""How the tuning of a device is found: by a few transfers that are timed, each against the best so far.

The constants win unless something is faster by a tenth, so noise moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from forge3d_core.transfer.tuning import Tuning
from forge3d_core.transfer.workers import default_threads
from forge3d_core.units import KIB, MIB

LARGE = 32 * MIB
"""What decides the size of chunks and the number of workers: many chunks for each of them."""

SMALL = 3 * MIB
"""What decides for how little a worker is woken."""

ROUNDS = 3
MARGIN = 1.1
"""How much faster another tuning has to be."""

Timed = Callable[[Tuning, int], float]
"""Moves so many bytes with a tuning; returns the seconds until they have arrived."""


def measure(timed: Timed, start: Tuning, in_time: Callable[[], bool]) -> Tuning:
    """Return the tuning that uploads most, beginning with ``start``; what is not ``in_time`` is not tried.

    Raises what ``timed`` raises.
    """
    best = start
    for nbytes, changes in (
        (LARGE, _chunk_sizes(start)),
        (LARGE, _worker_counts(start)),
        (LARGE, _depths(start)),
        (SMALL, _shares()),
    ):
        best = _best(timed, nbytes, [best, *(attrs.evolve(best, **change) for change in changes)], in_time)
    return best


def measure_reads(timed: Timed, start: Tuning, in_time: Callable[[], bool]) -> Tuning:
    """Do the same for reads, which have their block, so that depth and share make no difference."""
    best = start
    for changes in (_chunk_sizes(start), _worker_counts(start)):
        best = _best(timed, LARGE, [best, *(attrs.evolve(best, **change) for change in changes)], in_time)
    return best


def _chunk_sizes(start: Tuning) -> list[dict[str, int]]:
    return [{"largest": start.largest // 2}, {"largest": start.largest * 2, "smallest": start.largest}]


def _worker_counts(start: Tuning) -> list[dict[str, int]]:
    most = default_threads()
    return [{"helpers": count} for count in sorted({0, start.helpers // 2, most - 1, most} - {start.helpers})]


def _depths(start: Tuning) -> list[dict[str, int]]:
    return [{"depth": start.depth - 1}, {"depth": start.depth + 1}]


def _shares() -> list[dict[str, int]]:
    return [
        {"share": 2 * MIB, "smallest": MIB},
        {"share": MIB, "smallest": 512 * KIB},
        {"share": 8 * MIB, "smallest": 4 * MIB},
    ]


def _best(timed: Timed, nbytes: int, tunings: Sequence[Tuning], in_time: Callable[[], bool]) -> Tuning:
    """Return the fastest of the tunings, by the shortest of several turns; the first unless one is clear."""
    taken: dict[Tuning, float] = {}
    for _ in range(ROUNDS):
        for tuning in tunings:
            if not in_time():
                break
            taken[tuning] = min(timed(tuning, nbytes), taken.get(tuning, float("inf")))
    if len(taken) < len(tunings):  # time was up before each had a turn
        return tunings[0]
    fastest = min(tunings, key=lambda tuning: taken[tuning])
    return fastest if taken[fastest] * MARGIN < taken[tunings[0]] else tunings[0]
