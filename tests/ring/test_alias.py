"""What a block's arrays still reach is used for nothing else, and the ring goes on all the same."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import BudgetExhausted, ViewHeld
from forge3d_core.ring.ring import Ring, Slice

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
    kept = slot.view
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


def test_a_late_write_reaches_nothing_that_was_committed(device: AssembledDevice) -> None:
    """Neither its own slice nor others of the block."""
    ring, buffer = device.staging_ring(ring_count=2, buffer_size=SIZE), device.create_buffer(SIZE)
    aliases = []
    for value in range(8):
        slot = take(ring, 64)
        slot.view[:] = value
        aliases.append(memoryview(slot.view))
        slot.commit(buffer, value * 64)
        for alias in aliases:
            alias[:] = bytes([99]) * 64
    point = ring.advance()
    for alias in aliases:
        alias[:] = bytes([98]) * 64
    point.wait()
    assert peek(device, buffer)[:512].reshape(8, 64).tolist() == [[value] * 64 for value in range(8)]


def test_a_late_write_reaches_no_rows(device: AssembledDevice) -> None:
    ring, texture = (
        device.staging_ring(ring_count=1, buffer_size=SIZE),
        device.create_texture(3, 5, "r8unorm"),
    )
    pitch = max(4, device.limits.row_pitch_alignment)
    take(ring, 64).release()  # so that the next does not start where its block does
    slot = take(ring, 5 * pitch)
    alias = memoryview(slot.view)
    slot.array(np.uint8, (5, pitch))[:, :3] = np.arange(15).reshape(5, 3)
    slot.commit_rows(texture, row_pitch=pitch)
    alias[:] = bytes([99]) * len(alias)
    ring.advance().wait()
    assert peek(device, texture).tolist() == list(range(15))
    ring.close()


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


Commit = Callable[[], int]
"""Commits the slice, and returns how many bytes were taken for that."""


def _in_a_function(slot: Slice, commit: Commit) -> int:
    view = slot.view
    same = view
    view[:] = 7
    return commit() + 0 * same.size


def _in_a_caller(slot: Slice, commit: Commit) -> int:
    def write(view: Any) -> int:
        view[:] = 7
        return commit()

    view = slot.array(np.uint16)
    return write(view)


def _at_module_level(slot: Slice, commit: Commit) -> int:
    names: dict[str, Any] = {"slot": slot, "commit": commit}
    exec("view = slot.view; view[:] = 7; taken = commit(); exec('again = 1')", names)
    return int(names["taken"])


def _in_a_class_body(slot: Slice, commit: Commit) -> int:
    class Body:
        view = slot.view
        view[:] = 7
        taken = commit()

    return Body.taken


def _in_a_generator(slot: Slice, commit: Commit) -> int:
    def steps() -> Iterator[int]:
        view = slot.view
        yield 0
        view[:] = 7
        yield commit()

    return sum(steps())


def _in_a_coroutine(slot: Slice, commit: Commit) -> int:
    async def stage() -> int:
        async def inner() -> int:
            return commit()

        view = slot.view
        await asyncio.sleep(0)
        view[:] = 7
        return await inner()

    return asyncio.run(stage())


def _dropped(slot: Slice, commit: Commit) -> int:
    slot.view[:] = 7
    return commit()


def _in_a_container(slot: Slice, commit: Commit) -> int:
    kept = [slot.view]
    kept[0][:] = 7
    return commit()


def _in_an_attribute(slot: Slice, commit: Commit) -> int:
    kept = SimpleNamespace(view=slot.view)
    kept.view[:] = 7
    return commit()


def _beside_a_memoryview(slot: Slice, commit: Commit) -> int:
    view = slot.view
    view[:] = 7
    alias = memoryview(view)
    return commit() + 0 * len(alias)


def _in_a_closure(slot: Slice, commit: Commit) -> int:
    view = slot.view
    view[:] = 7

    def inside() -> int:
        return commit() + 0 * view.size

    return inside()


def _in_a_generator_that_rests(slot: Slice, commit: Commit) -> int:
    def steps() -> Iterator[int]:
        view = slot.view
        view[:] = 7
        yield 0
        view[:] = 8

    resting = steps()
    return next(resting) + commit()


def _in_another_thread(slot: Slice, commit: Commit) -> int:
    begun, over = threading.Event(), threading.Event()

    def hold(view: Any) -> None:
        begun.set()
        over.wait(20)

    slot.view[:] = 7
    thread = threading.Thread(target=lambda: hold(slot.view))
    thread.start()
    try:
        assert begun.wait(20)
        return commit()
    finally:
        over.set()
        thread.join()


def _below_the_root(slot: Slice, commit: Commit) -> int:
    view = slot.view
    view[:] = 7
    assert view.base is not None
    alias = memoryview(view.base.base)  # type: ignore[arg-type]
    return commit() + 0 * len(alias)


PLAIN = [
    _in_a_function,
    _in_a_caller,
    _at_module_level,
    _in_a_class_body,
    _in_a_generator,
    _in_a_coroutine,
    _dropped,
]
OTHERS = [
    _in_a_container,
    _in_an_attribute,
    _beside_a_memoryview,
    _in_a_closure,
    _in_a_generator_that_rests,
    _in_another_thread,
    _below_the_root,
]


def _stage(device: AssembledDevice, ring: Ring, program: Callable[[Slice, Commit], int]) -> int:
    buffer, slot = device.create_buffer(SIZE), ring.reserve(SIZE)

    def commit() -> int:
        before = device.budget.metrics().host_visible_bytes
        slot.commit(buffer)
        return device.budget.metrics().host_visible_bytes - before

    taken = program(slot, commit)
    ring.advance().wait()
    assert set(peek(device, buffer).tolist()) <= {7, 0}
    assert peek(device, buffer)[0] == 7
    return taken


@pytest.mark.parametrize("program", PLAIN)
def test_plain_variables_cost_no_copy(
    device: AssembledDevice, program: Callable[[Slice, Commit], int]
) -> None:
    with device.staging_ring(ring_count=2, buffer_size=SIZE) as ring:
        assert [_stage(device, ring, program) for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("program", OTHERS)
def test_what_may_be_an_alias_costs_a_copy_and_memory_until_it_is_done(
    device: AssembledDevice, program: Callable[[Slice, Commit], int]
) -> None:
    before = device.budget.metrics().host_visible_bytes
    with device.staging_ring(ring_count=2, buffer_size=SIZE) as ring:
        assert [_stage(device, ring, program) for _ in range(3)] == [SIZE] * 3
        assert device.budget.metrics().host_visible_bytes - before == 2 * SIZE
    assert device.budget.metrics().host_visible_bytes == before


def test_a_look_at_variables_keeps_none_of_them(device: AssembledDevice) -> None:
    ring, buffer = device.staging_ring(ring_count=1, buffer_size=SIZE), device.create_buffer(SIZE)
    slot = ring.reserve(SIZE)
    view, other = slot.view, object()
    references, bystander = sys.getrefcount(view), sys.getrefcount(other)
    slot.commit(buffer)
    assert sys.getrefcount(view) == references - 1  # that of the loan
    assert sys.getrefcount(other) == bystander


def test_locals_that_the_program_keeps_are_left_as_they_are(device: AssembledDevice) -> None:
    ring, buffer = device.staging_ring(ring_count=1, buffer_size=SIZE), device.create_buffer(SIZE)
    slot = ring.reserve(SIZE)
    view = slot.view
    view[:] = 7
    names = locals()
    slot.commit(buffer)
    assert names["view"] is view
    assert names["ring"] is ring
    ring.advance().wait()
    assert (peek(device, buffer) == 7).all()


def test_no_memory_for_the_move_refuses_the_commit_and_changes_nothing(
    open_device: Callable[..., AssembledDevice],
) -> None:
    device = open_device(budget=SIZE)
    ring, buffer = device.staging_ring(ring_count=1, buffer_size=SIZE), device.create_buffer(SIZE)
    slot = take(ring, SIZE)
    slot.view[:] = 7
    alias, stats = memoryview(slot.view), ring.stats()
    with pytest.raises(ViewHeld, match=r"still referred to.*local variables"):
        slot.commit(buffer)
    assert ring.stats() == stats
    alias[:64] = bytes([8]) * 64  # still the slice's memory
    del alias
    slot.commit(buffer)
    ring.advance().wait()
    assert peek(device, buffer).tolist() == [8] * 64 + [7] * (SIZE - 64)
