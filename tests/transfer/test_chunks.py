"""A device's staging chunks: which of those that are kept serves the next transfer."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.transfer import chunks
from forge3d_core.transfer.chunks import Chunk, Chunks

from .conftest import CHUNK


def kept(device: AssembledDevice, count: int) -> tuple[Chunks, list[Chunk]]:
    made = Chunks(device.allocator, "upload")
    taken = [made.take(CHUNK) for _ in range(count)]
    found = [chunk for chunk in taken if chunk is not None]
    assert len(found) == count
    for chunk in found:
        made.give(chunk)
    return made, found


def test_the_chunk_used_last_comes_first(bulk: AssembledDevice) -> None:
    """So an upload at a time keeps to one chunk, which stays in the cache, and the others may rest."""
    idle, (*_, newest) = kept(bulk, 3)
    for _ in range(3):
        assert idle.take(CHUNK) is newest
        idle.give(newest)


def test_a_chunk_in_flight_is_passed_over(bulk: AssembledDevice) -> None:
    idle, (oldest, _, newest) = kept(bulk, 3)
    with bulk.native.hold("upload"):
        newest.point = bulk.submit(bulk.command_list(), lane="upload")
        assert idle.take(CHUNK) is oldest
    newest.point.wait(20)
    assert idle.take(CHUNK) is newest


def test_one_that_is_too_small_is_passed_over(bulk: AssembledDevice) -> None:
    idle, found = kept(bulk, 2)
    larger = idle.take(2 * CHUNK)
    assert larger is not None
    assert larger not in found


def test_chunks_go_back_though_no_worker_helped(open_bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that a lone upload leaves behind gives back what has rested, and ends."""
    monkeypatch.setattr(chunks, "REST_SECONDS", -1.0)
    device = open_bulk(helpers=0)
    device.transfers.crew.resting.add(device.transfers._staging)
    with device.staging_ring(buffer_size=4096) as ring:
        ring.upload(np.ones(CHUNK, np.uint8), device.create_buffer(CHUNK)).wait(20)
    for thread in threading.enumerate():
        if thread.name == "forge3d-worker":
            thread.join(20)
    assert device.transfers._staging.nbytes == 0
