"""The budget's figures beside the driver's and the system's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forge3d_core import memory_figures
from forge3d_core.device.device import AssembledDevice
from forge3d_core.memory.figures import MemoryFigures, resident_bytes


def test_what_no_driver_tells_is_unknown(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device()
    with device.create_buffer(4096), device.staging_ring(ring_count=1, buffer_size=8192):
        figures = memory_figures(device)
        assert (figures.device_local_bytes, figures.host_visible_bytes) == (4096, 8192)
        assert (figures.device_used_bytes, figures.unaccounted_bytes) == (None, None)
        assert "unknown in use of unknown" in repr(figures)


def test_the_difference_is_named_whichever_is_larger() -> None:
    assert "1 KiB beyond that" in repr(MemoryFigures(1024, 0, 2048, 4096, None))
    assert "-1 KiB beyond that" in repr(MemoryFigures(2048, 0, 1024, 4096, None))


def test_adopted_memory_is_named_and_counted_once(open_device: Callable[..., AssembledDevice]) -> None:
    owner, device = open_device(), open_device()
    theirs = owner.create_buffer(4096)
    one, other = device.adopt(theirs.native), device.adopt(theirs.native)
    figures = memory_figures(device)
    assert (figures.adopted_bytes, figures.device_local_bytes) == (4096, 0)
    assert "adopted: 4 KiB" in repr(figures)
    one.close()
    assert memory_figures(device).adopted_bytes == 4096
    other.close()
    assert memory_figures(device).adopted_bytes == 0


def test_what_is_adopted_is_not_beyond_the_budget() -> None:
    assert MemoryFigures(1024, 0, 4096, 8192, None, adopted_bytes=1024).unaccounted_bytes == 2048


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/self/statm")
def test_resident_memory_holds_what_was_written() -> None:
    before = resident_bytes()
    kept = bytearray(b"x" * (64 << 20))
    after = resident_bytes()
    assert before is not None
    assert after is not None
    assert after - before > 32 << 20
    assert len(kept) == 64 << 20


@pytest.mark.parametrize("text", ["", "12", "a b c"])
def test_a_system_that_tells_something_else_tells_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "statm").write_text(text)
    assert resident_bytes(str(tmp_path / "statm")) is None
    assert resident_bytes(str(tmp_path / "none")) is None
