"""What a block's arrays still reach is used for nothing else, and the ring goes on all the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from forge3d_core.device import AssembledDevice
from forge3d_core.errors import BudgetExhausted

from .traffic import peek, take

SIZE = 4096


def test_a_variable_that_is_bound_anew_costs_one_block(device: AssembledDevice) -> None:
    """The memory that was held is free again in the round after."""
    before = device.budget.metrics().host_visible_bytes
    ring, buffer = device.staging_ring(ring_count=1, buffer_size=SIZE), device.create_buffer(SIZE)
    for value in range(8):
        slot = ring.reserve(SIZE)
        view = slot.view
        view[:] = value
        slot.commit(buffer)
        ring.advance().wait()
        assert (peek(device, buffer) == value).all()
        assert device.budget.metrics().host_visible_bytes - before <= 2 * SIZE
    del view, slot
    ring.close()
    assert device.budget.metrics().host_visible_bytes == before


def test_arrays_that_are_kept_for_ever_do_not_starve_a_ring(device: AssembledDevice) -> None:
    before = device.budget.metrics().host_visible_bytes
    ring, buffer = device.staging_ring(ring_count=1, buffer_size=SIZE), device.create_buffer(SIZE)
    kept = []
    for value in range(5):
        slot = ring.reserve(SIZE)
        kept.append(memoryview(slot.view))
        slot.view[:] = value
        slot.commit(buffer)
        ring.advance().wait()
        assert [set(alias) for alias in kept] == [{older} for older in range(value + 1)]
    assert device.budget.metrics().host_visible_bytes - before == 5 * SIZE
    kept.clear()
    assert device.budget.metrics().host_visible_bytes - before == SIZE
    ring.close()
    assert device.budget.metrics().host_visible_bytes == before


def test_a_ring_whose_arrays_are_kept_says_so_where_the_budget_has_no_room(
    open_device: Callable[..., AssembledDevice],
) -> None:
    device = open_device(budget=SIZE)
    ring, buffer = device.staging_ring(ring_count=1, buffer_size=SIZE), device.create_buffer(SIZE)
    slot = take(ring, SIZE)
    kept = memoryview(slot.view)
    slot.commit(buffer)
    ring.advance().wait()
    stalls = ring.stats().buffer_stalls
    assert ring.allocate(1) is None
    assert ring.stats().buffer_stalls == stalls + 1
    for ask in (lambda: ring.reserve(1), lambda: ring.upload(np.ones(1, np.uint8), buffer)):
        with pytest.raises(BudgetExhausted, match=r"1 slice\(s\).*still referred to.*del"):
            ask()
    assert ring.stats().buffer_stalls == stalls + 1
    del kept
    ring.upload(np.full(SIZE, 5, np.uint8), buffer).wait()
    assert (peek(device, buffer) == 5).all()


@pytest.mark.parametrize("count", [1, 2])
def test_a_slice_that_was_released_is_not_handed_out_while_an_alias_reaches_it(
    device: AssembledDevice, count: int
) -> None:
    ring, buffer = device.staging_ring(ring_count=count, buffer_size=SIZE), device.create_buffer(SIZE)
    slot = take(ring, SIZE)
    alias = memoryview(slot.view)
    slot.release()
    for value in range(4):
        following = ring.reserve(SIZE)
        following.view[:] = value
        alias[:] = bytes([77]) * SIZE
        following.commit(buffer)
        alias[:] = bytes([78]) * SIZE
        ring.advance().wait()
        assert (peek(device, buffer) == value).all()
    assert set(alias) == {78}


def test_a_late_write_stays_in_its_own_slice(device: AssembledDevice) -> None:
    """Other slices of the block are as they were; its own bytes may change until they are copied."""
    ring, buffer = device.staging_ring(ring_count=2, buffer_size=SIZE), device.create_buffer(SIZE)
    aliases = []
    for value in range(8):
        slot = take(ring, 64)
        slot.view[:] = value
        aliases.append(memoryview(slot.view))
        slot.commit(buffer, value * 64)
        aliases[0][:] = bytes([99]) * 64
    ring.advance().wait()
    assert peek(device, buffer)[64:512].reshape(7, 64).tolist() == [[value] * 64 for value in range(1, 8)]


def test_a_ring_that_closes_gives_back_what_was_set_aside(device: AssembledDevice) -> None:
    before = device.budget.metrics().host_visible_bytes
    ring, buffer = device.staging_ring(ring_count=1, buffer_size=SIZE), device.create_buffer(SIZE)
    aliases = []
    for value in range(3):
        slot = take(ring, SIZE)
        slot.view[:] = value
        aliases.append(slot.view.flat)
        slot.commit(buffer)
        ring.advance().wait()
    ring.close()
    assert device.budget.metrics().host_visible_bytes - before == 3 * SIZE
    assert [alias[5] for alias in aliases] == [0, 1, 2]
    del aliases
    assert device.budget.metrics().host_visible_bytes == before
