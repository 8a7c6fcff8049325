"""What a measurement chooses, of uploads whose time is arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forge3d_core.errors import FenceTimeout
from forge3d_core.transfer.measurement import LARGE, SMALL, measure, measure_reads
from forge3d_core.transfer.tuning import Tuning
from forge3d_core.units import MIB

START = Tuning(helpers=4)


def chosen(seconds: Callable[[Tuning, int], float], turns: int = 1000) -> Tuning:
    left = [turns]

    def timed(tuning: Tuning, nbytes: int) -> float:
        left[0] -= 1
        return seconds(tuning, nbytes)

    return measure(timed, START, lambda: left[0] > 0)


def test_where_nothing_differs_the_constants_stay() -> None:
    assert chosen(lambda tuning, nbytes: 1.0) == START


def test_a_little_faster_is_noise() -> None:
    assert chosen(lambda tuning, nbytes: 1.0 if tuning == START else 0.95) == START


def test_larger_chunks_win_where_they_are_faster() -> None:
    found = chosen(lambda tuning, nbytes: 64 * MIB / tuning.largest)
    assert (found.largest, found.smallest) == (2 * START.largest, START.largest)


def test_smaller_chunks_and_no_worker_win_where_they_are_faster() -> None:
    found = chosen(lambda tuning, nbytes: tuning.largest / MIB + tuning.helpers)
    assert (found.largest, found.helpers) == (START.largest // 2, 0)


def test_the_shares_are_found_with_small_uploads() -> None:
    found = chosen(lambda tuning, nbytes: 1.0 if nbytes == LARGE else tuning.share / MIB)
    assert found.share == min(share for share in (found.share, START.share))
    assert found.share < START.share
    assert (found.largest, found.helpers) == (START.largest, START.helpers)


def test_one_slow_turn_does_not_decide() -> None:
    seen: set[tuple[Tuning, int]] = set()

    def seconds(tuning: Tuning, nbytes: int) -> float:
        first = (tuning, nbytes) not in seen
        seen.add((tuning, nbytes))
        return 100.0 if first else 1.0

    assert chosen(seconds) == START


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_what_was_not_tried_in_time_is_not_chosen(turns: int) -> None:
    assert chosen(lambda tuning, nbytes: 1 / tuning.largest, turns) == START


def test_the_depth_that_is_faster_wins() -> None:
    found = chosen(lambda tuning, nbytes: 1 / tuning.depth)
    assert (found.depth, found.largest) == (START.depth + 1, START.largest)


def test_reads_are_measured_by_pieces_and_workers() -> None:
    def seconds(tuning: Tuning, nbytes: int) -> float:
        assert nbytes == LARGE
        return tuning.largest / MIB + tuning.helpers

    found = measure_reads(seconds, START, lambda: True)
    assert (found.largest, found.helpers) == (START.largest // 2, 0)
    assert (found.share, found.depth) == (START.share, START.depth)


def test_a_failure_is_passed_on() -> None:
    def seconds(tuning: Tuning, nbytes: int) -> float:
        raise FenceTimeout("late")

    with pytest.raises(FenceTimeout):
        chosen(seconds)


def test_the_sizes_differ_by_what_they_decide() -> None:
    assert 2 * START.largest <= LARGE
    assert START.threshold <= SMALL <= START.share
