"""Host blocks on an adapter: what arrays show is never freed under them, and goes back with the last."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forge3d_core.driver import Download, Fill
from forge3d_core.units import MIB

LARGE = 16 * MIB  # so much is unmapped from the process when it is freed: a use afterwards would end it


@pytest.mark.parametrize("direction", ["upload", "readback"])
def test_a_derived_array_survives_free(rig: Any, direction: str) -> None:
    block = rig.driver.allocate_block(LARGE, direction)
    buffer, derived = weakref.ref(block.native), block.view()[LARGE // 2 :].reshape(2, -1)
    rig.driver.free(block)
    assert not derived.any()
    del derived
    assert buffer() is None  # and so has given itself back


@pytest.mark.parametrize("busy", [False, True], ids=["", "busy"])
def test_a_derived_array_survives_close(rig: Any, busy: bool) -> None:
    work = rig.long_work()
    block, other = rig.driver.allocate_block(LARGE, "upload"), rig.driver.allocate_block(64, "readback")
    buffer, derived = weakref.ref(block.native), block.view()[1:]
    derived[:] = 3
    if busy:
        rig.submit(work)
        assert not rig.driver.close(0.0)
        derived[:] = 3
    rig.close()
    assert other.native is None
    assert derived.min() == derived.max() == 3
    derived[:] = 4
    del derived
    assert buffer() is None


def test_bytes_that_were_read_survive_close(rig: Any) -> None:
    memory, block = rig.buffer(LARGE), rig.driver.allocate_block(LARGE, "readback")
    rig.run(Fill(memory, 0, LARGE, 5), Download(memory, 0, block, 0, LARGE))
    derived = block.view()[1:]
    rig.close()
    assert derived.min() == derived.max() == 5


@pytest.mark.parametrize("end", ["free", "close"])
def test_arrays_of_an_earlier_mapping_keep_the_memory_too(rig: Any, end: str) -> None:
    """An alias of what the core has taken back still reaches it, unmapped in between or not."""
    memory, block = rig.buffer(LARGE), rig.driver.allocate_block(LARGE, "readback")
    buffer, stale = weakref.ref(block.native), block.view()
    rig.run(Fill(memory, 0, LARGE, 5), Download(memory, 0, block, 0, LARGE))
    assert block.view().min() == 5
    if end == "free":
        rig.driver.free(block)
    else:
        rig.close()
    assert stale.shape == (LARGE,)
    assert stale.max() == 5
    del stale
    assert buffer() is None


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_the_device_goes_with_the_last_array(rig: Any) -> None:
    """Its own threads end with it, and its memory with them."""
    if rig.driver.info.kind != "cpu":
        pytest.skip("only an adapter that is a CPU has threads for each device")

    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    derived = rig.driver.allocate_block(64, "upload").view()[1:]
    rig.close()
    before = threads()
    derived[:] = np.arange(63)
    del derived
    gc.collect()
    assert threads() < before
