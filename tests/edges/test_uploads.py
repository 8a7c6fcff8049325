"""Uploads of every size and alignment, on every backend: a clear error, or right."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

import forge3d_core as forge3d
from forge3d_core import Device, ReadbackPool, StagingRing

PATIENCE = 30.0
RESIDUES = list(itertools.product(range(4), range(1, 10)))  # offset, size


def noise(nbytes: int, seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, nbytes, dtype=np.uint8)


def test_uploads_of_any_size(device: Device, pool: ReadbackPool) -> None:
    sizes = (0, 1, 2, 3, 5, 63, 64, 65, 255, 256, 257, 511, 768, 769, 5000)
    with device.staging_ring(ring_count=3, buffer_size=256) as ring:  # 5000 is larger than all of it
        for size in sizes:
            data = noise(size, seed=size)
            buffer = device.create_buffer(5001)
            ring.upload(data, buffer).wait(PATIENCE)
            got = pool.read(buffer).wait(PATIENCE)
            assert (got[:size] == data).all(), size
            assert not got[size:].any(), size
            buffer.close()


def test_an_empty_upload_submits_nothing(device: Device, ring: StagingRing) -> None:
    buffer = device.create_buffer(4)
    before = ring.stats()
    assert ring.upload(np.empty(0, np.float32), buffer, 4).done
    assert ring.stats() == before


def test_unaligned_uploads_leave_their_neighbours_alone(
    device: Device, ring: StagingRing, pool: ReadbackPool
) -> None:
    window = 16
    model = noise(window * len(RESIDUES))
    buffer = device.create_buffer(model.nbytes)
    ring.upload(model, buffer)
    for number, (offset, size) in enumerate(RESIDUES):
        data = noise(size, seed=100 + number)
        at = number * window + offset
        ring.upload(data, buffer, at)
        model[at : at + size] = data
    assert (pool.read(buffer).wait(PATIENCE) == model).all()


def test_unaligned_commits_in_one_block(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    model = noise(16 * len(RESIDUES))
    buffer = device.create_buffer(model.nbytes)
    ring.upload(model, buffer).wait(PATIENCE)
    for number, (offset, size) in enumerate(RESIDUES):
        slot = ring.reserve(size)
        data = noise(size, seed=200 + number)
        slot.view[:] = data
        at = number * 16 + offset
        slot.commit(buffer, at)
        model[at : at + size] = data
    ring.advance()
    assert (pool.read(buffer).wait(PATIENCE) == model).all()


def test_overlapping_commits_land_in_their_order(
    device: Device, ring: StagingRing, pool: ReadbackPool
) -> None:
    model = np.zeros(32, np.uint8)
    buffer = device.create_buffer(32)
    for value, (at, size) in enumerate(((0, 32), (3, 7), (5, 2), (9, 13), (1, 1), (10, 3)), 1):
        slot = ring.reserve(size)
        slot.view[:] = value
        slot.commit(buffer, at)
        model[at : at + size] = value
    ring.advance()
    assert pool.read(buffer).wait(PATIENCE).tolist() == model.tolist()


def test_what_upload_takes_and_what_it_refuses(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    buffer = device.create_buffer(96)
    grid = np.arange(48, dtype=np.int16).reshape(6, 8)
    ring.upload(grid[::2, ::-1], buffer)  # strides, negative too
    assert (pool.read(buffer, dtype="i2", shape=(3, 8)).wait(PATIENCE) == grid[::2, ::-1]).all()
    ring.upload(np.float64(1.5), buffer)  # no dimensions
    assert pool.read(buffer, dtype="f8", shape=()).wait(PATIENCE) == 1.5
    ring.upload([1, 2, 3], buffer)  # array-like
    for bad in (np.array([object()]), np.array(["text", None])):
        with pytest.raises(forge3d.UsageError):
            ring.upload(bad, buffer)
    with pytest.raises(forge3d.OutOfRange):
        ring.upload(noise(97), buffer)
    with pytest.raises(forge3d.ForeignObject):
        ring.upload(noise(4), cast(Any, object()))


def test_the_caller_may_overwrite_its_array_at_once(device: Device, pool: ReadbackPool) -> None:
    data = noise(100_000)
    wanted = data.copy()
    buffer = device.create_buffer(data.nbytes)
    with device.staging_ring(ring_count=2, buffer_size=60_000) as ring:
        ring.upload(data, buffer)
        data[:] = 0
        assert (pool.read(buffer).wait(PATIENCE) == wanted).all()


def test_three_threads_upload_through_one_ring(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    buffers = [device.create_buffer(10_001) for _ in range(3)]

    def work(number: int) -> None:
        for round_ in range(3):
            ring.upload(noise(10_001, seed=10 * number + round_), buffers[number], timeout=PATIENCE)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(work, range(3)))
    for number, buffer in enumerate(buffers):
        assert (pool.read(buffer).wait(PATIENCE) == noise(10_001, seed=10 * number + 2)).all()
