from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from forge3d_core.errors import TooLarge, UsageError
from forge3d_core.tiling import Tiling

MIB = 2**20


@given(
    some.lists(some.integers(1, 40), min_size=1, max_size=3),
    some.integers(0, 3),
    some.integers(400, 100_000),
)
def test_tiles_cover_the_array_once_and_fit(shape: list[int], halo: int, nbytes: int) -> None:
    tiling = Tiling(shape, "f4", halo=halo)
    try:
        plan = tiling.fit(nbytes)
    except TooLarge:
        assert tiling.tiled([1] * min(2, len(shape)) + shape[2:], depth=1).nbytes > nbytes / 4
        return
    assert plan.nbytes <= nbytes
    seen = np.zeros(shape, int)
    for number, tile in enumerate(plan):
        assert (tile.index, tile.shape, tile.padded) == (number, plan.tile, plan.padded)
        assert all(0 < e <= t for e, t in zip(tile.extent, tile.shape, strict=True))
        seen[tile.slices] += 1
    assert (seen == 1).all()
    assert len(plan) == number + 1


def test_as_large_as_it_can_be() -> None:
    plan = Tiling((1 << 28,), "f4").fit("64 MiB")
    assert plan.depth == 3
    assert 0.95 * 29 * MIB < plan.nbytes <= 29 * MIB
    assert math.prod(Tiling((100, 100), "u1").fit("64 MiB").tile) == 10_000


def test_bands_of_whole_rows_first() -> None:
    plan = Tiling((8192, 8192, 4), "u1").fit("64 MiB")
    assert plan.tile[1:] == (8192, 4)
    assert Tiling((8192, 8192, 4), "u1", halo=4).fit("4 MiB").tile[0] >= 32


def test_a_buffer_has_a_limit_too() -> None:
    plan = Tiling((1 << 24,), "f4").fit("1 GiB", most=MIB)
    assert plan.frame_nbytes <= MIB


def test_less_at_once_where_there_is_little() -> None:
    assert Tiling((64, 64), "f8", halo=2).fit(3000).depth == 1
    with pytest.raises(TooLarge, match="give it more"):
        Tiling((64, 64), "f8", halo=2).fit(300)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Tiling((0, 4)),
        lambda: Tiling(()),
        lambda: Tiling((4, 4), halo=(1, 2, 3)).halos,
        lambda: Tiling((4, 4), edge="mirror"),  # type: ignore[arg-type]
        lambda: Tiling((4, 4), axes=3).halos,
        lambda: Tiling((4, 4)).tiled((4,)),
        lambda: Tiling((4, 4, 4)).tiled((2, 2, 2)),
        lambda: Tiling((4, 4)).fit(4096, depth=0),
    ],
)
def test_what_is_wrong_is_refused(wrong) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError):
        wrong()
