"""Host blocks on a device: zero, private, never freed while they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from forge3d_core.driver import Download

if TYPE_CHECKING:
    from conftest import Bench, CallGuard


@pytest.mark.parametrize("nbytes", [1, 4096, 100_001])
def test_blocks_are_zero_and_writable(bench: Bench, nbytes: int) -> None:
    for _ in range(3):
        block = bench.driver.allocate_block(nbytes, "upload")
        view = block.view()
        assert (view.shape, view.dtype, block.nbytes) == ((nbytes,), np.uint8, nbytes)
        assert not view.any()
        view[:] = 0xCD
        del view
        bench.driver.free(block)


def test_freeing_never_waits_for_held_work(bench: Bench, gate: CallGuard) -> None:
    buffer = bench.buffer(5000)
    block, idle = (bench.driver.allocate_block(5000, "readback") for _ in range(2))
    held = gate.hold("download")
    reading = bench.driver.submit("download", [Download(buffer, 0, block, 0, 5000)], ())
    assert bench.driver.free(idle) is False
    assert not idle.view().any()  # and nothing has changed
    assert not bench.driver.query(held)
    gate.open()
    for token in (held, reading):
        bench.finish(token)
    assert bench.driver.free(idle)  # retired or not
    assert bench.driver.free(idle)
    assert bench.driver._staging.free_list._blocks == []


@pytest.mark.parametrize("late", [False, True], ids=["", "closed before"])
def test_a_device_that_closes_waits_for_no_other(
    open_bench: Callable[[], Bench], bench: Bench, gate: CallGuard, late: bool
) -> None:
    """Nor does the garbage collector, wherever it finds the last array over its memory."""
    other = open_bench()
    derived = other.driver.allocate_block(5000, "upload").view()[1:]
    if late:
        other.close()
    held = gate.hold("compute")
    other.close()
    del derived
    assert not bench.driver.query(held)  # it has not been waited for
    gate.open()
    bench.finish(held)
    bench.driver.retire(held)
    assert bench.driver._staging.free_list._blocks == []


def test_a_derived_array_survives_free_and_close(open_bench: Callable[[], Bench]) -> None:
    bench = open_bench()
    block = bench.driver.allocate_block(4096, "upload")
    derived = block.view()[10:20].reshape(2, 5)
    bench.driver.free(block)
    bench.close()
    derived[:] = 3
    assert derived.sum() == 30
