"""Slices: what they may be committed to, and what becomes of their views."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import (
    Closed,
    ForeignObject,
    OutOfRange,
    SliceOutstanding,
    SliceSpent,
    TooLarge,
    UsageError,
    ViewHeld,
)
from forge3d_core.ring.ring import Ring

from .traffic import peek, take

ALIGNED = "?pitch=256&align=4"


def test_what_a_texture_does_not_take(device: AssembledDevice, ring: Ring) -> None:
    texture = device.create_texture(300, 8)
    with device.staging_ring(buffer_size=3) as tiny, pytest.raises(TooLarge, match="texel of 4 bytes"):
        tiny.upload(np.zeros((1, 300, 4), np.uint8), texture)
    with pytest.raises(UsageError, match="takes uint8 of shape"):
        ring.upload(np.zeros((8, 8), np.uint8), texture)
    with pytest.raises(UsageError, match="origin"):
        ring.upload(np.zeros((1, 1, 4), np.uint8), texture, 4)
    with pytest.raises(OutOfRange):
        ring.upload(np.zeros((2, 2, 4), np.uint8), texture, origin=(0, 7))
    slot = take(ring, 64)
    with pytest.raises(ForeignObject, match="commit_rows"):
        slot.commit(texture)  # type: ignore[arg-type]
    with pytest.raises(OutOfRange, match="2 rows"):
        slot.commit_rows(texture, size=(16, 2))
    with pytest.raises(UsageError, match="row_pitch"):
        slot.commit_rows(texture, size=(4, 4), row_pitch=15)
    slot.commit_rows(texture, size=(0, 4))
    assert ring.advance().done


def test_a_pitch_that_the_device_cannot_take(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device(ALIGNED)
    slot = take(device.staging_ring(buffer_size=4096), 2048)
    with pytest.raises(UsageError, match="256"):
        slot.commit_rows(device.create_texture(4, 4), row_pitch=64)


@pytest.mark.parametrize("nbytes", [0, -1, 1.5, "64", None])
def test_a_slice_has_at_least_a_byte(ring: Ring, nbytes: Any) -> None:
    with pytest.raises(UsageError, match="at least 1 byte"):
        ring.allocate(nbytes)
    with pytest.raises(UsageError, match="at least 1 byte"):
        ring.reserve(nbytes)


def test_a_view_kept_past_commit_reaches_nothing(device: AssembledDevice, ring: Ring) -> None:
    buffer = device.create_buffer(64)
    slot = take(ring, 64)
    view, shaped = slot.view, slot.array("f4", (4, 4))
    assert slot.view is view
    view[:] = 1
    slot.commit(buffer)
    for late in (view, shaped):
        with pytest.raises(ValueError, match="read-only"):
            late[:] = 9
    for use in (
        lambda: slot.view,
        lambda: slot.array("u1"),
        lambda: slot.commit(buffer),
        lambda: slot.commit_rows(device.create_texture(1, 1)),
    ):
        with pytest.raises(SliceSpent):
            use()
    slot.release()
    ring.advance()
    assert peek(device, buffer).tolist() == [1] * 64


def test_a_derived_view_holds_the_slice_and_nothing_is_lost(device: AssembledDevice, ring: Ring) -> None:
    buffer = device.create_buffer(64)
    slot = take(ring, 64)
    derived = slot.view.reshape(8, 8)
    derived[:] = 3
    for end in (lambda: slot.commit(buffer), slot.release, ring.close):
        with pytest.raises(ViewHeld):
            end()
    assert not ring.closed
    derived[0, 0] = 4
    del derived
    slot.commit(buffer)
    ring.advance()
    assert peek(device, buffer).tolist() == [4] + [3] * 63


def test_a_derived_view_at_the_end_of_the_device_stays_readable(device: AssembledDevice, ring: Ring) -> None:
    derived = take(ring, 64).view.reshape(8, 8)
    derived[:] = 5
    slot = take(ring, 64)
    view = slot.view
    with pytest.warns(ResourceWarning, match="1 host-visible"):
        device.close()
    assert derived.sum() == 320
    assert view.size == 0
    with pytest.raises(Closed):
        slot.commit(None)  # type: ignore[arg-type]


def test_a_dropped_slice_does_not_stop_the_ring(device: AssembledDevice, ring: Ring) -> None:
    buffer = device.create_buffer(64)
    dropped, kept = take(ring, 64), take(ring, 64)
    kept.view[:] = 6
    kept.commit(buffer)
    with pytest.raises(SliceOutstanding, match="1 slice"):
        ring.advance()
    view = dropped.view
    del dropped
    gc.collect()
    with pytest.raises(SliceOutstanding):  # somebody may still write through the view
        ring.advance()
    del view
    gc.collect()
    ring.advance()
    assert peek(device, buffer).tolist() == [6] * 64


def test_errors_leave_the_slice_as_it_was(
    device: AssembledDevice, ring: Ring, wrong_targets: list[tuple[Any, int, type[Exception]]]
) -> None:
    buffer = device.create_buffer(64)
    slot = take(ring, 64)
    slot.view[:] = 8
    for target, offset, error in (*wrong_targets, (buffer, 0.0, UsageError)):
        with pytest.raises(error):
            slot.commit(target, offset)
    assert ring.stats().bytes_staged == 0
    slot.commit(buffer)
    ring.advance()
    assert peek(device, buffer).tolist() == [8] * 64


def test_a_spent_slice_keeps_no_memory(device: AssembledDevice, ring: Ring) -> None:
    buffer, memory = device.create_buffer(64), ring.state.blocks[0].allocation.native.memory
    references = sys.getrefcount(memory)
    committed, released, revoked, live = slots = [take(ring, 64) for _ in range(4)]
    assert sys.getrefcount(memory) == references  # none is shown yet
    for slot in slots:
        slot.view[:] = 1
    assert sys.getrefcount(memory) == references + 4
    committed.commit(buffer)
    released.release()
    revoked.revoke()
    assert sys.getrefcount(memory) == references + 1
    ring.abandon()  # as a device does that closes
    assert sys.getrefcount(memory) == references
    assert live.nbytes == 64
