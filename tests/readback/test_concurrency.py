"""How many reads are in flight, from what is measured: with a clock and a device that are made up."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from typing import Any

import attrs
import hypothesis
import hypothesis.strategies as st
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import UsageError
from forge3d_core.protocols import AsyncReadbackConfig
from forge3d_core.readback.concurrency import MAX_MOVES, Concurrency

NBYTES = 1_000_000
EACH = 1e9
"""Bytes a second that one read in flight gets."""


@attrs.define
class Load:
    """Reads of a device that carries ``useful`` of them at full speed, of which each waits for its block."""

    concurrency: Concurrency
    useful: int
    noise: float = 0.0
    now: float = 100.0
    waits: int = 0
    waiting: bool = True
    draw: random.Random = attrs.field(factory=lambda: random.Random(1))

    def rate(self, limit: int) -> float:
        return EACH * min(limit, self.useful)

    def run(self, reads: int) -> list[int]:
        """Land so many reads and return the limits that there were."""
        seen = []
        for _ in range(reads):
            rate = self.rate(self.concurrency.limit) * (1 + self.noise * self.draw.uniform(-1, 1))
            self.now += NBYTES / rate
            self.waits += self.waiting
            self.concurrency.landed(self.now, NBYTES, self.waits)
            seen.append(self.concurrency.limit)
        return seen


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("useful", [1, 2, 5, 9, 16, 40])
def test_it_finds_what_the_device_can_use(useful: int, noise: float) -> None:
    load = Load(Concurrency(1, 16), useful, noise)
    load.run(20_000)
    usual = load.run(20_000)
    wanted = min(useful, 16)
    assert sum(load.rate(limit) for limit in usual) >= 0.97 * len(usual) * load.rate(wanted)
    assert sum(usual) / len(usual) <= wanted * 1.3 + 0.5  # and takes hardly more memory than that needs


def test_it_follows_a_load_that_changes() -> None:
    load = Load(Concurrency(1, 32), useful=3, noise=0.1)
    assert load.run(20_000)[-1] in (3, 4)
    load.useful = 24
    assert max(load.run(20_000)) >= 20
    load.useful = 2
    assert load.run(40_000)[-1] <= 4


def test_each_move_says_why() -> None:
    load = Load(Concurrency(1, 8), useful=4)
    load.run(2000)
    moves = list(load.concurrency.moves)
    assert [(move.before, move.after, move.reason) for move in moves[:5]] == [
        (2, 3, "trial"),
        (3, 4, "rose"),
        (4, 5, "rose"),
        (5, 4, "did-not-rise"),
        (4, 3, "trial"),
    ]
    assert moves[5].reason == "fell"
    assert all(first.after == then.before for first, then in itertools.pairwise(moves))
    assert moves[3].throughput_bytes_per_sec == pytest.approx(4 * EACH, rel=0.1)
    assert str(moves[3]).startswith("from 5 to 4 reads in flight: 3.7")
    assert str(moves[3]).endswith("with 5, which was no more than before")


def test_fewer_that_are_as_fast_stay() -> None:
    concurrency = Concurrency(1, 8)
    load = Load(concurrency, useful=1)
    load.run(5000)
    assert concurrency.limit == 1
    assert "did-not-rise" in {move.reason for move in concurrency.moves}


def test_nothing_moves_where_no_read_waits() -> None:
    concurrency = Concurrency(2, 8)
    Load(concurrency, useful=8, waiting=False).run(5000)
    assert concurrency.limit == 2
    assert not concurrency.moves


def test_trials_of_a_steady_load_become_rare() -> None:
    load = Load(Concurrency(1, 8), useful=4)
    load.run(5000)
    before = len([move for move in load.concurrency.moves if move.reason == "trial"])
    begun = load.now
    load.run(5000)
    later = [move for move in load.concurrency.moves if move.reason == "trial" and move.at > begun]
    assert len(later) < before


@hypothesis.given(
    bounds=st.tuples(st.integers(1, 300), st.integers(1, 300)).map(sorted),
    landings=st.lists(
        st.tuples(st.floats(0, 0.1), st.integers(0, 10**9), st.booleans()), min_size=1, max_size=2000
    ),
    again=st.integers(1, 20),
)
@hypothesis.settings(max_examples=100)
def test_it_stays_between_its_bounds_whatever_is_measured(
    bounds: list[int], landings: list[tuple[float, int, bool]], again: int
) -> None:
    concurrency = Concurrency(*bounds)
    now, waits = 0.0, 0
    for seconds, nbytes, waited in landings * again:
        now, waits, before = now + seconds, waits + waited, concurrency.limit
        moved = concurrency.landed(now, nbytes, waits)
        assert bounds[0] <= concurrency.limit <= bounds[1]
        assert moved == (concurrency.limit != before)
        if moved:
            move = concurrency.moves[-1]
            assert (move.before, move.after, move.at) == (before, concurrency.limit, now)
    assert len(concurrency.moves) <= MAX_MOVES


def test_a_pool_has_so_many_blocks_as_it_says(
    device: AssembledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reads are real, and what is measured of them is made up: a device that carries 6 at once."""
    from forge3d_core.readback import blocks

    pool = device.readback_pool(adaptive=True, max_pending_ops=8, buffer_size=4096, timeout=10)
    buffer, now = device.create_buffer(4096), [0.0]

    class Clock:
        def perf_counter(self) -> float:
            now[0] += 0.01 / min(pool.stats.__self__.blocks.state.depth, 6)  # type: ignore[attr-defined]
            return now[0]

    monkeypatch.setattr(blocks, "time", Clock())
    limits = set()
    for _ in range(300):
        with device.driver.hold("download"):
            handles = [pool.read(buffer) for _ in range(pool.stats().pending_limit)]
            pool.blocks.state.counts.waits += 1  # as one that finds no block would count
        for handle in handles:
            handle.wait()
        del handle
        handles.clear()
        stats = pool.stats()
        limits.add(stats.pending_limit)
        assert stats.blocks <= stats.pending_limit
    assert {2, 3, 4, 5, 6} <= limits
    assert {move.reason for move in stats.moves} >= {"trial", "rose", "did-not-rise"}
    assert stats.pending_operations == 0


def test_more_in_flight_serve_those_that_wait(device: AssembledDevice, until: Callable[..., None]) -> None:
    pool = device.readback_pool(adaptive=True, max_pending_ops=4, buffer_size=64, timeout=10)
    buffer = device.create_buffer(64)
    pool.read(buffer).wait()
    with device.driver.hold("download"):
        handles = [pool.read(buffer), pool.read(buffer)]
        third = threading.Thread(target=lambda: handles.append(pool.read(buffer)))
        third.start()
        until(lambda: pool.blocks.sleepers or pool.stats().waits)
        with pool.blocks.lock:
            pool.blocks.state.resize(3)
            pool.blocks._notify()
        third.join(10)
        assert len(handles) == 3  # though nothing has come
    assert [handle.wait().nbytes for handle in handles] == [64] * 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_pending_ops": 2, "min_pending_ops": 3}, "min_pending_ops is 3, more than max_pending_ops, 2"),
        ({"backpressure": "raise"}, "adaptive=True with 'raise'"),
        ({"double_buffered": False}, "adaptive=True with double_buffered=False"),
    ],
)
def test_what_does_not_go_with_it_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        AsyncReadbackConfig(adaptive=True, **options)
