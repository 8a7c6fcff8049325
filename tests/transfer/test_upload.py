"""Large uploads: every byte arrives once, through memory that the budget may have back."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.memory.resources import DeviceBuffer

from .conftest import CHUNK, bytes_of, peek

ALIGNED = "?pitch=256&align=4"
SIZES = [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 17, 20 * CHUNK - 3]


@pytest.mark.parametrize("selector", ["", ALIGNED, "?chaos=1&seed=3", "?chaos=1&seed=4&align=4"])
@pytest.mark.parametrize("helpers", [0, 3])
@pytest.mark.parametrize("size", SIZES)
def test_every_byte_arrives(
    open_bulk: Callable[..., AssembledDevice], selector: str, helpers: int, size: int
) -> None:
    device = open_bulk(selector, helpers=helpers)
    data = bytes_of(size)
    with device.staging_ring(buffer_size=4096) as ring:
        for offset in (0, 1, 7):
            buffer = device.create_buffer(size + 16)
            ring.upload(data, buffer, offset)
            seen = peek(device, buffer)
            assert (seen[offset : offset + size] == data).all()
            assert not seen[:offset].any()
            assert not seen[offset + size :].any()
        stats = ring.stats()
        assert (stats.bytes_staged, stats.bytes_in_flight, stats.allocations) == (3 * size, 0, 0)


@pytest.mark.parametrize("layout", ["fortran", "reversed", "stepped", "broadcast", "swapped"])
def test_any_layout_is_copied_once(bulk: AssembledDevice, layout: str) -> None:
    cube = bytes_of(4 * 60 * 70 * 80).view(">f4").reshape(60, 70, 80)
    array = {
        "fortran": np.asfortranarray(cube),
        "reversed": cube[::-1, :, ::-1],
        "stepped": cube[1::2, ::3],
        "broadcast": np.broadcast_to(cube[:1], cube.shape),
        "swapped": cube.T,
    }[layout]
    buffer = bulk.create_buffer(array.nbytes)
    bulk.staging_ring(buffer_size=4096).upload(array, buffer)
    assert peek(bulk, buffer).tobytes() == array.tobytes()


@pytest.mark.parametrize("selector", ["", ALIGNED])
@pytest.mark.parametrize(
    ("format", "width"),
    [("rgba8unorm", 20), ("rgba8unorm", 16384), ("r32float", 1000), ("rgba32float", 9000)],
)
def test_texels(open_bulk: Callable[..., AssembledDevice], selector: str, format: str, width: int) -> None:
    """A row of the last is wider than a chunk."""
    device = open_bulk(selector)
    height = 300_000 // width
    texture = device.create_texture(width, height + 3, format)
    image = bytes_of(height * width * texture.format.block_bytes).reshape(height, width, -1)[::-1]
    image = image.view(texture.format.dtype)
    device.staging_ring(buffer_size=4096).upload(
        image if image.shape[2] > 1 else image[..., 0], texture, origin=(0, 2)
    )
    device.wait_idle(20)
    seen = np.asarray(texture.native).reshape(height + 3, width, -1)
    assert seen[2:-1].tobytes() == image.tobytes()
    assert not seen[:2].any()
    assert not seen[-1:].any()


def test_the_ring_goes_first_and_what_follows_later(bulk: AssembledDevice) -> None:
    buffer, ring = bulk.create_buffer(4 * CHUNK), bulk.staging_ring(buffer_size=4096)
    slot = ring.reserve(4096)
    slot.view[:] = 1
    slot.commit(buffer, 100)
    middle = np.full(4 * CHUNK, 2, np.uint8)
    with bulk.native.hold("upload"):
        uploaded = ring.upload(middle, buffer)
        slot = ring.reserve(16)
        slot.view[:] = 3
        slot.commit(buffer, 0)
        assert not uploaded.done
        assert ring.stats().bytes_in_flight == 4096 + middle.nbytes
        last = ring.advance()
    last.wait(20)
    assert uploaded.done
    seen = np.asarray(buffer.native)
    assert (seen[:16] == 3).all()
    assert (seen[16:] == 2).all()


def test_advance_covers_what_was_uploaded(bulk: AssembledDevice) -> None:
    buffer, ring = bulk.create_buffer(4 * CHUNK), bulk.staging_ring(buffer_size=4096)
    with bulk.native.hold("upload"):
        uploaded = ring.upload(bytes_of(4 * CHUNK), buffer)
        assert ring.advance().value == uploaded.value


@pytest.mark.parametrize("chunks", [0, 1, 2, 5])
def test_any_budget_that_holds_the_ring_does(open_bulk: Callable[..., AssembledDevice], chunks: int) -> None:
    device = open_bulk(budget=3 * 4096 + chunks * CHUNK + CHUNK // 2)
    data = bytes_of(13 * CHUNK + 5)
    buffer = device.create_buffer(data.nbytes)
    with device.staging_ring(buffer_size=4096) as ring:
        ring.upload(data, buffer)
        assert (peek(device, buffer) == data).all()
        assert (ring.stats().allocations > 0) == (chunks == 0)  # the ring's own blocks
        assert device.budget.metrics().peak_host_visible_bytes <= device.budget.limit


def test_the_budget_may_have_the_chunks_back(open_bulk: Callable[..., AssembledDevice]) -> None:
    device = open_bulk(budget=4 * CHUNK)
    buffer, data = device.create_buffer(8 * CHUNK), bytes_of(8 * CHUNK)
    with device.staging_ring(ring_count=1, buffer_size=4096) as ring:
        ring.upload(data, buffer).wait(20)
        assert device.budget.metrics().host_visible_bytes > 4096
    device.budget.reserve(4 * CHUNK).release()


def test_chunks_go_back_when_they_rest(bulk: AssembledDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = bulk.create_buffer(8 * CHUNK)
    with bulk.staging_ring(buffer_size=4096) as ring:
        ring.upload(bytes_of(8 * CHUNK), buffer).wait(20)
    staging = bulk.transfers._staging
    staging.rest()
    assert staging.nbytes
    monkeypatch.setattr("forge3d_core.transfer.chunks.REST_SECONDS", -1.0)
    staging.rest()
    assert staging.nbytes == bulk.budget.metrics().host_visible_bytes == 0


def test_the_steady_state_takes_no_memory(bulk: AssembledDevice) -> None:
    buffer, data = bulk.create_buffer(30 * CHUNK), bytes_of(30 * CHUNK)
    with bulk.staging_ring(buffer_size=4096) as ring:
        for _ in range(4):
            ring.upload(data, buffer).wait(20)
        held = bulk.budget.metrics().peak_host_visible_bytes
        for _ in range(20):
            ring.upload(data, buffer).wait(20)
    assert bulk.budget.metrics().peak_host_visible_bytes <= max(held, 8 * CHUNK + 3 * 4096)


@pytest.mark.parametrize("nth", [1, 2, 3, 7])
def test_memory_that_the_driver_lacks_is_done_without(
    open_bulk: Callable[..., AssembledDevice], nth: int
) -> None:
    device = open_bulk()
    data = bytes_of(13 * CHUNK)
    buffer, ring = device.create_buffer(data.nbytes), device.staging_ring(buffer_size=4096)
    device.driver.fail_allocation(nth)
    ring.upload(data, buffer)
    assert (peek(device, buffer) == data).all()


@pytest.mark.parametrize("seed", range(3))
def test_many_threads_and_devices_at_once(
    open_bulk: Callable[..., AssembledDevice], background: Callable[..., Any], patience: float, seed: int
) -> None:
    devices = [open_bulk(selector) for selector in ("", f"?chaos=1&seed={seed}", ALIGNED)]
    draw = random.Random(seed)
    for device in devices:
        device.transfers.crew = devices[0].transfers.crew
    work = []
    for number in range(9):
        device, data = devices[number % 3], bytes_of(draw.randrange(1, 30 * CHUNK), number)
        ring = device.staging_ring(buffer_size=4096, lane=draw.choice(["upload", "compute"]))
        work.append((device, data, device.create_buffer(data.nbytes), ring))
    barrier = threading.Barrier(len(work))

    def upload(data: Any, buffer: DeviceBuffer, ring: Any) -> None:
        barrier.wait(patience)
        for _ in range(3):
            ring.upload(data, buffer, timeout=patience).wait(patience)

    for uploading in [background(upload, *item[1:]) for item in work]:
        uploading.result(patience)
    for device, data, buffer, _ in work:
        assert (peek(device, buffer) == data).all()
