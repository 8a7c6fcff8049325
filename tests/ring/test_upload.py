"""Uploads of any size, dtype and shape: every byte arrives, and nothing else changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import UsageError
from forge3d_core.ring.ring import Ring

from .traffic import bytes_of, peek

ALIGNED = "?pitch=256&align=4"


@pytest.mark.parametrize("selector", ["", ALIGNED])
@pytest.mark.parametrize("size", [1, 3, 63, 64, 65, 1023, 1024, 1025, 3 * 1024, 10_001])
@pytest.mark.parametrize("offset", [0, 1, 7])
def test_every_byte_arrives(
    open_device: Callable[..., AssembledDevice], selector: str, size: int, offset: int
) -> None:
    device = open_device(selector)
    buffer = device.create_buffer(size + 16)
    data = bytes_of(size)
    with device.staging_ring(ring_count=2, buffer_size=1024) as ring:
        ring.upload(data, buffer, offset).wait(20)
        seen = peek(device, buffer)
        assert seen[offset : offset + size].tobytes() == data.tobytes()
        assert not seen[:offset].any()
        assert not seen[offset + size :].any()
        assert ring.stats().bytes_staged == size


@pytest.mark.parametrize(
    "data",
    [
        np.arange(24, dtype=">i4").reshape(2, 3, 4)[:, ::-1, ::2],
        np.float64(3.5),
        [1, 2, 3],
        np.array([True, False]),
        np.array([(1, 2.0)], [("a", "u1"), ("b", "f4")]),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    ],
    ids=["strided", "scalar", "list", "bool", "struct", "fortran"],
)
def test_any_array_arrives_in_c_order(device: AssembledDevice, ring: Ring, data: Any) -> None:
    expected = np.asarray(data).tobytes()
    buffer = device.create_buffer(len(expected))
    ring.upload(data, buffer)
    assert peek(device, buffer).tobytes() == expected


def test_an_empty_upload_submits_nothing(device: AssembledDevice, ring: Ring) -> None:
    buffer = device.create_buffer(4)
    assert ring.upload(np.empty(0, np.uint8), buffer).done
    assert ring.upload(np.empty((0, 4, 4), np.uint8), device.create_texture(4, 4)).done
    assert ring.advance().done
    assert ring.stats().submissions == 0


@pytest.mark.parametrize("data", [None, [object()], np.array([{}]), np.empty(3, "V0")])
def test_what_has_no_bytes_is_refused(device: AssembledDevice, ring: Ring, data: Any) -> None:
    with pytest.raises(UsageError):
        ring.upload(data, device.create_buffer(64))
    assert ring.stats().allocations == 0


def test_the_source_may_be_overwritten_at_once(device: AssembledDevice, ring: Ring) -> None:
    buffer = device.create_buffer(2000)
    data = bytes_of(2000)
    expected = data.copy()
    with device.native.hold("upload"):
        ring.upload(data, buffer)
        data[:] = 0
    assert (peek(device, buffer) == expected).all()


@pytest.mark.parametrize("selector", ["", ALIGNED])
@pytest.mark.parametrize(
    ("format", "dtype", "channels"), [("rgba8unorm", "u1", 4), ("r8unorm", "u1", 1), ("rg32float", "f4", 2)]
)
def test_rows_of_a_texture(
    open_device: Callable[..., AssembledDevice], selector: str, format: str, dtype: str, channels: int
) -> None:
    device = open_device(selector)
    texture = device.create_texture(19, 13, format)
    shape = (9, 7, channels) if channels > 1 else (9, 7)
    image = np.random.default_rng(1).integers(1, 256, shape).astype(dtype)
    with device.staging_ring(ring_count=2, buffer_size=600) as ring:
        ring.upload(image, texture, origin=(5, 3))
        device.wait_idle(20)
    whole = np.asarray(texture.native).view(dtype).reshape(13, 19, -1)
    assert (whole[3:12, 5:12].reshape(shape) == image).all()
    assert np.count_nonzero(whole) == image.size


@pytest.mark.parametrize("count", range(1, 9))
def test_every_count_streams(device: AssembledDevice, count: int) -> None:
    buffer, data = device.create_buffer(9000), bytes_of(9000, count)
    with device.staging_ring(ring_count=count, buffer_size=512) as ring:
        ring.upload(data, buffer)
        assert device.budget.metrics().host_visible_bytes == count * 512
        assert (peek(device, buffer) == data).all()
    assert device.budget.metrics().host_visible_bytes == 0


def test_upload_checks_before_it_stages(
    ring: Ring, wrong_targets: list[tuple[Any, int, type[Exception]]]
) -> None:
    for target, offset, error in wrong_targets:
        with pytest.raises(error):
            ring.upload(np.ones(64, np.uint8), target, offset)
    assert ring.stats().allocations == 0


def test_uploads_of_many_threads_keep_their_bytes(
    device: AssembledDevice, background: Callable[..., Any], patience: float
) -> None:
    ring = device.staging_ring(ring_count=3, buffer_size=4096)
    payloads = [bytes_of(30_000 + 777 * n, n) for n in range(6)]
    targets = [device.create_buffer(len(payload)) for payload in payloads]
    barrier = threading.Barrier(len(payloads))

    def upload(number: int) -> None:
        barrier.wait(patience)
        payload, target = payloads[number], targets[number]
        half = len(payload) // 2
        ring.upload(payload[:half], target, 0, timeout=patience)
        for start in range(half, len(payload), 999):
            slot = ring.reserve(len(payload[start : start + 999]), patience)
            slot.view[:] = payload[start : start + 999]
            slot.commit(target, start)
        ring.advance(patience).wait(patience)

    for uploading in [background(upload, number) for number in range(len(payloads))]:
        uploading.result(patience)
    for payload, target in zip(payloads, targets, strict=True):
        assert (np.asarray(target.native) == payload).all()
    stats = ring.stats()
    assert stats.bytes_staged == sum(map(len, payloads))
    assert stats.bytes_in_flight == 0
