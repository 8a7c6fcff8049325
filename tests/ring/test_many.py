"""Several uploads in one call: what the device gets of them, and what the ring counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import FenceTimeout, OutOfRange, SliceOutstanding, UsageError, WrongType
from forge3d_core.protocols import BatchingRing
from forge3d_core.ring.ring import Ring

from .traffic import bytes_of, peek, take


def test_a_ring_takes_batches(ring: Ring) -> None:
    assert isinstance(ring, BatchingRing)


def test_what_fits_is_one_submission_and_neighbours_are_one_command(
    device: AssembledDevice, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over two blocks: 20 times 64 bytes, of which 16 fit in one."""
    buffer, data = device.create_buffer(20 * 64), bytes_of(20 * 64)
    submitted: list[int] = []
    submit = device.submit_commands

    def noting(lane: str, commands: list[Any], *rest: Any) -> Any:
        submitted.append(len(commands))
        return submit(lane, commands, *rest)

    monkeypatch.setattr(device, "submit_commands", noting)
    with device.native.hold("upload"):
        point = ring.upload_many([(data[at : at + 64], buffer, at) for at in range(0, len(data), 64)])
        assert not point.done
        stats = ring.stats()
        assert (stats.submissions, stats.bytes_in_flight, stats.bytes_staged) == (1, len(data), len(data))
        assert stats.allocations == 20
    assert submitted == [2]
    assert (peek(device, buffer) == data).all()


def test_textures_and_large_arrays_go_along(device: AssembledDevice, ring: Ring) -> None:
    texture, buffer = device.create_texture(4, 4), device.create_buffer(5000)
    image, data = bytes_of(64).reshape(4, 4, 4), bytes_of(5000, 1)
    ring.upload_many([(image, texture), (data, buffer), (b"first", buffer)])
    assert (peek(device, texture) == image.reshape(-1)).all()
    assert peek(device, buffer).tobytes() == b"first" + data[5:].tobytes()


@pytest.mark.parametrize(
    ("place", "wrong", "error"),
    [
        (0, lambda target, _: (np.zeros(9, np.uint8), target), OutOfRange),
        (1, lambda target, _: (np.zeros(1, np.uint8), target, 8), OutOfRange),
        (2, lambda target, _: (np.zeros(1, np.uint8), target, 1.0), UsageError),
        (1, lambda target, _: (target, np.zeros(1, np.uint8)), UsageError),
        (2, lambda target, _: [np.zeros(1, np.uint8), target], WrongType),
        (0, lambda target, _: np.zeros(1, np.uint8), WrongType),
        (2, lambda _, texture: (np.zeros((2, 5, 4), np.uint8), texture), OutOfRange),
        (1, lambda _, texture: (np.zeros((2, 2, 3), np.uint8), texture), UsageError),
        (2, lambda _, texture: (np.zeros((2, 2, 4), np.uint8), texture, 4), UsageError),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_staged(
    device: AssembledDevice, ring: Ring, place: int, wrong: Any, error: type[Exception]
) -> None:
    target = device.create_buffer(8)
    uploads: list[Any] = [(np.ones(8, np.uint8), target), (np.ones(8, np.uint8), target)]
    uploads.insert(place, wrong(target, device.create_texture(4, 4)))
    before = ring.stats()
    with pytest.raises(error):
        ring.upload_many(uploads)
    assert ring.stats() == before
    assert not peek(device, target).any()


def test_a_single_upload_is_no_list_of_them(device: AssembledDevice, ring: Ring) -> None:
    with pytest.raises(WrongType, match=r"\(data, target\) or \(data, target, offset\)"):
        ring.upload_many((b"data", device.create_buffer(4)))  # type: ignore[arg-type]


def test_nothing_submits_nothing(ring: Ring) -> None:
    assert ring.upload_many([]).done
    assert ring.stats().submissions == 0


def test_a_full_ring_is_waited_for(device: AssembledDevice, ring: Ring) -> None:
    buffer = device.create_buffer(1024)
    uploads = [(bytes_of(1024, number), buffer) for number in range(4)]
    with device.native.hold("upload"):
        with pytest.raises(FenceTimeout, match="no room for 1 KiB"):
            ring.upload_many(uploads, timeout=0)
        assert ring.stats().buffer_stalls == 1
    ring.upload_many(uploads, timeout=20)
    assert (peek(device, buffer) == uploads[3][0]).all()


def test_own_slices_are_not_waited_for(device: AssembledDevice, ring: Ring) -> None:
    slot = take(ring, 10)
    with pytest.raises(SliceOutstanding, match="upload"):
        ring.upload_many([(b"data", device.create_buffer(4))])
    slot.release()


def test_floats_are_remembered_as_by_upload(device: AssembledDevice, ring: Ring) -> None:
    floats, words = device.create_buffer(64), device.create_buffer(64)
    point = ring.upload_many([(np.ones(8, np.float64), floats), (np.ones(8, np.uint64), words)])
    assert floats.allocation.uploaded == (point, np.dtype(np.float64))
    assert words.allocation.uploaded is None
