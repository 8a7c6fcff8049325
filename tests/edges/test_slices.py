"""Slices and the ring they come from, on every backend: a clear error, or right."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import forge3d_core as forge3d
from forge3d_core import Device, ReadbackPool, StagingRing

PATIENCE = 30.0


def noise(nbytes: int, seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, nbytes, dtype=np.uint8)


def test_a_view_kept_past_commit_reaches_nothing(
    device: Device, ring: StagingRing, pool: ReadbackPool
) -> None:
    buffer = device.create_buffer(64)
    slot = ring.reserve(64)
    kept, floats = slot.view, slot.array(np.float32, (4, 4))
    kept[:] = 7
    slot.commit(buffer)
    for array in (kept, floats):
        with pytest.raises((ValueError, IndexError)):
            array[:1] = 9
        assert array.size == 0
    with pytest.raises(forge3d.SliceSpent):
        _ = slot.view
    with pytest.raises(forge3d.SliceSpent):
        slot.array(np.uint8)
    ring.advance()
    assert (pool.read(buffer).wait(PATIENCE) == 7).all()


def test_a_derived_view_holds_the_commit_up(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    buffer = device.create_buffer(64)
    slot = ring.reserve(64)
    slot.view[:] = 1
    derived = slot.view[8:]
    with pytest.raises(forge3d.ViewHeld):
        slot.commit(buffer)
    derived[:] = 2  # it is still ours
    del derived
    slot.commit(buffer)
    ring.advance()
    assert pool.read(buffer).wait(PATIENCE).tolist() == [1] * 8 + [2] * 56


def test_a_slice_is_committed_once(device: Device, ring: StagingRing) -> None:
    buffer = device.create_buffer(64)
    slot = ring.reserve(8)
    slot.commit(buffer)
    for again in (lambda: slot.commit(buffer), lambda: slot.commit(buffer, 8)):
        with pytest.raises(forge3d.SliceSpent):
            again()
    slot.release()  # idempotent, too late is fine
    before = ring.stats().bytes_staged
    ring.advance().wait(PATIENCE)
    assert ring.stats().bytes_staged == before == 8


def test_a_commit_outside_the_buffer_leaves_the_slice_as_it_was(
    device: Device, ring: StagingRing, pool: ReadbackPool
) -> None:
    buffer = device.create_buffer(16)
    slot = ring.reserve(8)
    slot.view[:] = 3
    for offset in (9, 16, -1, 2**40):
        with pytest.raises(forge3d.OutOfRange):
            slot.commit(buffer, offset)
    slot.commit(buffer, 8)
    ring.advance()
    assert pool.read(buffer).wait(PATIENCE).tolist() == [0] * 8 + [3] * 8


def test_a_slice_has_at_least_one_byte_and_at_most_a_block(ring: StagingRing) -> None:
    for size in (0, -1):
        with pytest.raises(forge3d.UsageError):
            ring.allocate(size)
    for call in (ring.allocate, ring.reserve):
        with pytest.raises(forge3d.TooLarge):
            call(4097)
    whole = ring.allocate(4096)
    assert whole is not None
    assert whole.view.size == 4096
    whole.release()


def test_advance_with_an_open_slice_of_this_thread_is_an_error(device: Device, ring: StagingRing) -> None:
    slot = ring.reserve(16)
    with pytest.raises(forge3d.SliceOutstanding):
        ring.advance()
    with pytest.raises(forge3d.SliceOutstanding):
        ring.upload(noise(8), device.create_buffer(8))
    slot.release()
    ring.advance().wait(PATIENCE)


def test_a_dtype_or_shape_that_does_not_fit_a_slice(ring: StagingRing) -> None:
    slot = ring.reserve(10)
    for dtype, shape in ((np.float32, 3), (np.uint8, (2, 6)), (object, None), ("no such", None), ("u1", -1)):
        with pytest.raises(forge3d.UsageError):
            slot.array(dtype, shape)
    assert slot.array(np.float32).shape == (2,)
    slot.release()


def test_a_ring_used_after_close(device: Device) -> None:
    buffer = device.create_buffer(64)
    ring = device.staging_ring(ring_count=2, buffer_size=256)
    slot = ring.reserve(8)
    view = slot.view
    ring.close()
    ring.close()
    assert ring.closed
    assert view.size == 0
    for call in (
        lambda: ring.allocate(8),
        lambda: ring.reserve(8),
        lambda: ring.advance(),
        lambda: ring.upload(b"12345678", buffer),
        lambda: slot.commit(buffer),
        lambda: slot.view,
    ):
        with pytest.raises(forge3d.Closed):
            call()
    assert ring.stats().ring_count == 2
