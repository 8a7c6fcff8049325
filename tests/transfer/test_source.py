"""Sources: their parts are all of an array's bytes, in C order, whatever its layout."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as some
import numpy as np
import pytest
from hypothesis import given, settings

from forge3d_core.errors import TooLarge
from forge3d_core.formats import texture_format
from forge3d_core.memory.resources import BufferMemory
from forge3d_core.memory.textures import TextureMemory
from forge3d_core.transfer.source import Runs, Tiles
from forge3d_core.units import align_up

DTYPES = ["u1", ">i2", "f4", "f8", "c16", "g", "V3", "M8[s]", [("a", "u1"), ("b", ">f8")]]


@some.composite
def arrays(draw: some.DrawFn) -> np.ndarray[Any, Any]:
    """Draw an array of up to four dimensions, transposed, stepped through and reversed."""
    shape = tuple(draw(some.lists(some.integers(1, 7), min_size=0, max_size=4)))
    dtype = np.dtype(draw(some.sampled_from(DTYPES)))
    nbytes = dtype.itemsize * int(np.prod(shape, dtype=int))
    array = np.random.default_rng(nbytes).integers(0, 256, nbytes, dtype=np.uint8).view(dtype).reshape(shape)
    array = array.transpose(draw(some.permutations(range(array.ndim))))
    steps = draw(some.lists(some.sampled_from([1, -1, 2, -3]), min_size=array.ndim, max_size=array.ndim))
    return np.asarray(array[tuple(slice(None, None, step) for step in steps)])


@settings(deadline=None)
@given(arrays(), some.integers(0, 9), some.integers(1, 70), some.sampled_from([1, 4]))
def test_runs_are_all_bytes_where_the_target_wants_them(
    array: np.ndarray[Any, Any], offset: int, room: int, alignment: int
) -> None:
    room = align_up(room, alignment) + 2 * alignment
    runs = Runs.cut(array, BufferMemory(None, 10_000), offset, room, alignment)
    target = np.zeros(offset + array.nbytes, np.uint8)
    written = np.zeros_like(target)
    for number in reversed(range(len(runs))):
        part = runs.part(number)
        staging = np.full(room, 0xEE, np.uint8)
        part.fill(staging[: part.room])
        command = part.command(None, 64)  # type: ignore[arg-type]
        assert command.block_offset - 64 == part.lead == command.offset % alignment
        run = slice(command.offset, command.offset + command.nbytes)
        target[run] = staging[part.lead : part.lead + command.nbytes]
        written[run] += 1
    assert target[offset:].tobytes() == array.tobytes()
    assert (written[offset:] == 1).all()


@settings(deadline=None)
@given(some.integers(1, 9), some.integers(1, 40), some.integers(4, 300), some.sampled_from([1, 8, 256]))
def test_tiles_are_all_texels(height: int, width: int, room: int, alignment: int) -> None:
    image = np.random.default_rng(1).integers(1, 256, (height, width * 2, 4), dtype=np.uint8)[::-1, ::2]
    format = texture_format("rgba8unorm")
    target = TextureMemory(None, 0, width + 3, height + 2, format)
    tiles = Tiles.cut(image[None], target, (3, 2, 0), room, alignment)
    seen = np.zeros((height + 2, width + 3, 4), np.uint8)
    for number in range(len(tiles)):
        tile = tiles.part(number)
        assert tile.room <= room
        staging = np.zeros(tile.room, np.uint8)
        tile.fill(staging)
        command = tile.command(None)  # type: ignore[arg-type]
        (x, y), (w, h) = command.origin, command.size
        assert command.row_pitch % alignment == 0
        assert not seen[y : y + h, x : x + w].any()
        for row in range(h):
            line = staging[row * command.row_pitch : row * command.row_pitch + w * 4]
            seen[y + row, x : x + w] = line.reshape(w, 4)
    assert (seen[2:, 3:] == image).all()
    assert np.count_nonzero(seen) == image.size


def test_a_texel_that_does_not_fit() -> None:
    target = TextureMemory(None, 0, 9, 9, texture_format("rgba32float"))
    with pytest.raises(TooLarge, match="16 bytes"):
        Tiles.cut(np.zeros((1, 2, 2, 4), np.float32), target, (0, 0, 0), 15)
