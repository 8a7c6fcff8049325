"""Footprints, grids, texture layouts and contiguity: arithmetic that needs no device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from forge3d_core.driver import Dispatch
from forge3d_cuda.kernels import CompiledKernel, dispatch
from forge3d_cuda.memory import _contiguous
from forge3d_cuda.staging import PAGE, Staging


@given(st.integers(1, 2**40))
def test_pinned_memory_is_rounded_to_pages_and_no_further(nbytes: int) -> None:
    footprint = Staging.footprint(nbytes)
    assert footprint % PAGE == 0
    assert nbytes <= footprint < nbytes + PAGE


@given(st.tuples(*[st.integers(1, 10_000)] * 3), st.tuples(*[st.integers(1, 64)] * 3))
def test_the_grid_covers_all_threads_and_no_empty_group(
    threads: tuple[int, int, int], workgroup: tuple[int, int, int]
) -> None:
    entry: Any = SimpleNamespace(launch=None)
    kernel = CompiledKernel(entry, "k", workgroup, (), (10_000, 10_000, 10_000))
    program: Any = SimpleNamespace(native=kernel)
    grid = dispatch(Dispatch(program, (), (), threads))[1][0]
    for count, size, groups in zip(threads, workgroup, grid, strict=True):
        assert (groups - 1) * size < count <= groups * size


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.permutations(range(4)), st.booleans())
def test_contiguity_agrees_with_numpy(shape: list[int], order: list[int], gap: bool) -> None:
    axes = [axis for axis in order if axis < len(shape)]
    array = np.zeros(shape, np.float32).transpose(axes)
    if gap:
        array = array[..., ::2]
    assert _contiguous(array.shape, array.strides, 4) == array.flags.c_contiguous


def test_no_strides_means_contiguous() -> None:
    assert _contiguous((3, 4), None, 4)
    assert _contiguous((), None, 8)
