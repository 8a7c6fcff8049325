"""Reads of every size, shape and alignment, on every backend: a clear error, or right."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

import forge3d_core as forge3d
from forge3d_core import Device, ReadbackHandle, ReadbackPool, StagingRing

PATIENCE = 30.0
RESIDUES = list(itertools.product(range(4), range(1, 10)))  # offset, size


def noise(nbytes: int, seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, nbytes, dtype=np.uint8)


def taken_or_refused(handle: ReadbackHandle, *refusals: type[Exception]) -> None:
    """Check a read of fresh memory that may or may not have completed before its pool closed."""
    try:
        got = handle.wait(PATIENCE)
    except refusals:
        return
    assert not got.any()


def test_reads_at_every_alignment(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    data = noise(64)
    buffer = device.create_buffer(64)
    ring.upload(data, buffer)
    handles = [
        (o, n, pool.read(buffer, offset=o, nbytes=n)) for o, n in [*RESIDUES, (63, 1), (61, 3), (0, 64)]
    ]
    for offset, size, handle in reversed(handles):
        assert (handle.wait(PATIENCE) == data[offset : offset + size]).all(), (offset, size)


def test_a_read_of_an_empty_region(device: Device, pool: ReadbackPool) -> None:
    buffer, texture = device.create_buffer(8), device.create_texture(4, 4)
    for handle, shape in (
        (pool.read(buffer, offset=8), (0,)),
        (pool.read(buffer, offset=3, nbytes=0, dtype="f4"), (0,)),
        (pool.read(buffer, dtype="u2", shape=(0, 5)), (0, 5)),
        (pool.read(texture, size=(0, 3)), (3, 0, 4)),
        (pool.read(texture, origin=(4, 4)), (0, 0, 4)),
    ):
        assert handle.is_complete
        got = handle.try_get()
        assert got is not None
        assert got.shape == shape
        with handle.lease() as shown:
            assert shown.shape == shape


def test_reads_that_do_not_fit_are_refused(device: Device, pool: ReadbackPool) -> None:
    buffer, texture = device.create_buffer(10), device.create_texture(4, 4)
    fixed = np.zeros(10, np.uint8)
    fixed.flags.writeable = False
    reads: list[tuple[type[Exception], Any, dict[str, Any]]] = [
        (forge3d.OutOfRange, buffer, {"offset": 11}),
        (forge3d.OutOfRange, buffer, {"offset": -1}),
        (forge3d.OutOfRange, buffer, {"nbytes": 11}),
        (forge3d.OutOfRange, buffer, {"shape": 11}),
        (forge3d.UsageError, buffer, {"dtype": "f4"}),
        (forge3d.UsageError, buffer, {"dtype": object}),
        (forge3d.UsageError, buffer, {"dtype": "nonsense"}),
        (forge3d.UsageError, buffer, {"nbytes": 8, "shape": (3, 3)}),
        (forge3d.UsageError, buffer, {"shape": (2, -1)}),
        (forge3d.UsageError, buffer, {"origin": (1, 0)}),
        (forge3d.UsageError, buffer, {"out": np.zeros(9, np.uint8)}),
        (forge3d.UsageError, buffer, {"out": as_strided(np.zeros(1, np.uint8), (10,), (0,))}),
        (forge3d.UsageError, buffer, {"out": fixed}),
        (forge3d.UsageError, buffer, {"out": [0] * 10}),
        (forge3d.OutOfRange, texture, {"origin": (4, 0), "size": (1, 1)}),
        (forge3d.OutOfRange, texture, {"size": (5, 1)}),
        (forge3d.UsageError, texture, {"offset": 4}),
        (forge3d.UsageError, texture, {"dtype": "f8"}),
        (forge3d.UsageError, texture, {"shape": (4, 4)}),
        (forge3d.ForeignObject, np.zeros(4), {}),
    ]
    for error, source, region in reads:
        with pytest.raises(error):
            pool.read(source, **region)
    assert pool.stats().total_operations == 0
    assert pool.stats().pending_operations == 0


def test_a_read_into_the_callers_array(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    data = noise(40).view(np.float32)
    buffer = device.create_buffer(40)
    ring.upload(data, buffer)
    out = np.zeros((2, 5), np.float32)
    assert pool.read(buffer, dtype="f4", shape=(2, 5), out=out).wait(PATIENCE) is out
    assert out.tobytes() == data.tobytes()


def test_a_read_is_a_snapshot(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    buffer = device.create_buffer(3000)
    handles = []
    for value in range(6):
        device.submit(device.command_list().fill(buffer, value))
        handles.append(pool.read(buffer))
    ring.upload(np.full(3000, 99, np.uint8), buffer)
    for value, handle in enumerate(handles):
        got = handle.wait(PATIENCE)
        assert (got == value).all(), (value, got[0])
        assert handle.wait() is got
    assert (pool.read(buffer).wait(PATIENCE) == 99).all()


def test_many_small_reads(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    data = noise(1200)
    buffer = device.create_buffer(1200)
    ring.upload(data, buffer)
    handles = [pool.read(buffer, offset=4 * i, nbytes=4) for i in range(300)]
    got = np.concatenate([handle.wait(PATIENCE) for handle in handles])
    assert (got == data).all()
    stats = pool.stats()
    assert stats.completed_operations == 300
    assert stats.blocks <= 4
    assert stats.block_allocations == 4


def test_a_lease_shows_the_bytes_until_it_is_released(
    device: Device, ring: StagingRing, pool: ReadbackPool
) -> None:
    data = noise(30)
    buffer, texture = device.create_buffer(30), device.create_texture(3, 5, "rg8uint")
    ring.upload(data, buffer)
    ring.upload(data.reshape(5, 3, 2), texture)
    for source, wanted in ((buffer, data), (texture, data.reshape(5, 3, 2))):
        lease = pool.read(source).lease(PATIENCE)
        shown = lease.array
        for _ in range(8):  # more than there are blocks
            pool.read(source).wait(PATIENCE)
        assert (shown == wanted).all()
        with pytest.raises(ValueError, match="read-only"):
            shown[0] = 1
        lease.release()
        with pytest.raises(forge3d.StateError):
            _ = lease.array
    assert pool.stats().pending_operations == 0


def test_a_cancelled_read_says_so(device: Device, pool: ReadbackPool) -> None:
    buffer = device.create_buffer(64)
    handle = pool.read(buffer)
    handle.cancel()
    handle.cancel()
    with pytest.raises(forge3d.Cancelled):
        handle.wait(PATIENCE)
    taken = pool.read(buffer)
    taken.wait(PATIENCE)
    taken.cancel()
    assert not taken.wait().any()


def test_a_pool_used_after_close(device: Device) -> None:
    buffer = device.create_buffer(16)
    pool = device.readback_pool(buffer_size=64)
    landed, pending = pool.read(buffer), pool.read(buffer)
    landed.wait(PATIENCE)
    pool.close()
    pool.close()
    assert pool.closed
    assert not landed.wait().any()
    taken_or_refused(pending, forge3d.Cancelled)
    for call in (lambda: pool.read(buffer), lambda: pool.stream(buffer)):
        with pytest.raises(forge3d.Closed):
            call()
