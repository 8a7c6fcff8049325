"""The ring: where its slices lie, when it is full, and how it closes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import BudgetExceeded, Closed, TooLarge, UsageError
from forge3d_core.protocols import StagingRing, StagingSlice
from forge3d_core.ring.ring import Ring

from .traffic import peek, take


def test_a_ring_satisfies_its_protocols(ring: Ring) -> None:
    assert isinstance(ring, StagingRing)
    assert isinstance(take(ring, 1), StagingSlice)


def test_slices_are_aligned_disjoint_and_wrap(ring: Ring) -> None:
    first, second, third = (take(ring, n) for n in (1, 100, 800))
    assert [(s.ring_index, s.offset, s.nbytes) for s in (first, second, third)] == [
        (0, 0, 1),
        (0, 64, 100),
        (0, 192, 800),
    ]
    assert take(ring, 33).ring_index == 1
    for slot in (first, second, third):
        slot.release()
        slot.release()


def test_full_is_none_and_changes_only_the_stalls(device: AssembledDevice, ring: Ring) -> None:
    buffer = device.create_buffer(1024)
    with device.native.hold("upload"):
        for _ in range(3):
            take(ring, 1024).commit(buffer)
            ring.advance()
        before = ring.stats()
        assert before.bytes_in_flight == 3072
        assert ring.allocate(1) is None
        assert ring.allocate(1024) is None
        after = ring.stats()
        assert after.buffer_stalls == before.buffer_stalls + 2
        assert (after.current_ring_index, after.allocations) == (
            before.current_ring_index,
            before.allocations,
        )
    device.wait_idle(20)
    assert ring.stats().bytes_in_flight == 0
    assert take(ring, 1024).ring_index == 0


def test_too_large_is_not_full(ring: Ring) -> None:
    for ask in (ring.allocate, ring.reserve):
        with pytest.raises(TooLarge, match="upload"):
            ask(1025)
    assert ring.stats().buffer_stalls == 0
    assert take(ring, np.int64(1024)).nbytes == 1024  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 9, -1, 1.5, "3", None])
def test_a_ring_has_one_to_eight_blocks(device: AssembledDevice, count: Any) -> None:
    with pytest.raises(UsageError, match="1 to 8"):
        device.staging_ring(ring_count=count)
    with pytest.raises(UsageError):
        device.staging_ring(buffer_size=0)
    with pytest.raises(UsageError, match="lane"):
        device.staging_ring(lane="sideways")
    assert device.budget.metrics().total_bytes == 0


def test_no_budget_no_ring(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device(budget=0)
    with pytest.raises(BudgetExceeded):
        device.staging_ring()
    assert device.budget.metrics().buffer_count == 0


def test_a_closed_ring(device: AssembledDevice, ring: Ring) -> None:
    buffer = device.create_buffer(64)
    slot, pending = take(ring, 64), take(ring, 64)
    pending.view[:] = 2
    pending.commit(buffer)
    ring.close()
    ring.close()
    assert ring.closed
    for use in (
        lambda: ring.allocate(1),
        lambda: ring.reserve(1),
        ring.advance,
        lambda: ring.upload(b"1", buffer),
        lambda: slot.view,
        lambda: slot.commit(buffer),
    ):
        with pytest.raises(Closed):
            use()
    slot.release()
    assert ring.stats().submissions == 1
    assert peek(device, buffer).tolist() == [2] * 64
    assert device.budget.metrics().host_visible_bytes == 0


def test_leaving_with_an_error_shows_that_error(device: AssembledDevice) -> None:
    ring = device.staging_ring()
    derived = take(ring, 64).view[1:]

    def fail() -> None:
        with ring:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert ring.closed
    assert derived.nbytes == 63
    del derived


def test_the_point_covers_everything_committed_so_far(device: AssembledDevice, ring: Ring) -> None:
    buffer = device.create_buffer(1024)
    with device.native.hold("upload"):
        take(ring, 8).commit(buffer)
        first = ring.advance()
        assert ring.advance() == first
        take(ring, 8).commit(buffer, 8)
        second = ring.advance()
        assert second.value == first.value + 1
        assert not first.done
    second.wait(20)
    assert first.done
