"""A reader that wants only the latest frame, and counts those that it missed."""

from __future__ import annotations

import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Closed, OutOfRange
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.readback.pool import Pool

from .source import SIZE


def test_frames_that_nobody_takes_do_not_pile_up(device: AssembledDevice, buffer: DeviceBuffer) -> None:
    stream = device.readback_pool(max_pending_ops=2).stream(buffer, nbytes=4)
    for value in range(1, 21):
        device.submit(device.command_list().fill(buffer, value))
        assert stream.push()
        device.wait_idle(20)
    assert stream.dropped_frames == 18  # the newest that landed before the last push is kept
    latest = stream.latest()
    assert latest is not None
    assert latest.tolist() == [20] * 4
    assert stream.dropped_frames == 19


def test_a_stream_shows_the_latest_and_counts_the_rest(device: AssembledDevice, buffer: DeviceBuffer) -> None:
    pool = device.readback_pool(max_pending_ops=2)
    stream = pool.stream(buffer, nbytes=4)
    assert stream.latest() is None
    for value in (1, 2):
        device.submit(device.command_list().fill(buffer, value))
        assert stream.push()
    device.wait_idle(20)
    latest = stream.latest()
    assert latest is not None
    assert latest.tolist() == [2] * 4
    assert stream.latest() is None
    assert stream.dropped_frames == 1
    with device.native.hold("download"):
        assert [stream.push() for _ in range(4)] == [True, True, False, False]
        assert stream.latest() is None
        assert stream.dropped_frames == 3
        stream.close()
        stream.close()
    with pytest.raises(Closed, match="stream was closed"):
        stream.push()
    assert stream.latest() is None
    device.wait_idle(20)
    other = pool.stream(buffer, nbytes=4)
    assert other.push()
    device.wait_idle(20)
    assert other.latest() is not None
    stats = pool.stats()
    # Cancelled are the frame that was passed over and the two in flight at close.
    assert (stats.dropped_frames, stats.cancelled_operations, stats.pending_operations) == (3, 3, 0)


def test_a_stream_reports_what_it_cannot_read(pool: Pool, buffer: DeviceBuffer) -> None:
    with pytest.raises(OutOfRange):
        pool.stream(buffer, offset=SIZE + 1).push()
