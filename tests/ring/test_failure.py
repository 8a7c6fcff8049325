"""A ring where something fails: the host's copy, the device's earlier work, or somebody closes meanwhile."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Closed, KernelError
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.protocols import Binding, KernelSource
from forge3d_core.ring import small_upload
from forge3d_core.ring.ring import Ring
from forge3d_core.ring.slice import Slice
from forge3d_core.transfer.moving import MOVER

from .traffic import bytes_of, peek, take


@pytest.fixture
def ruin(device: AssembledDevice) -> Callable[[DeviceBuffer], None]:
    """Write a buffer by a kernel that fails, so that nothing can come after that write any more."""

    def divide(_threads: object, _buffer: object) -> None:
        1 // 0  # noqa: B018

    kernel = device.create_kernel(KernelSource("divide", {"host": divide}, (Binding("buffer"),)))

    def ruin(buffer: DeviceBuffer) -> None:
        with pytest.raises(KernelError):
            device.submit(device.command_list().dispatch(kernel, [buffer], threads=1)).wait(20)

    return ruin


def during_copies(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Have ``act`` called in the middle of every copy that this thread makes."""
    here = threading.current_thread()

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def acting(*given: Any, **more: Any) -> Any:
            if threading.current_thread() is here:
                act()
            return call(*given, **more)

        return acting

    monkeypatch.setattr(MOVER, "copy", before(MOVER.copy))
    monkeypatch.setattr(small_upload, "view_of", before(small_upload.view_of))


def arrived(device: AssembledDevice, buffer: DeviceBuffer) -> Any:
    """Return what a buffer shows beside a lane that has failed."""
    with device.readback_pool(buffer_size=4096) as pool:
        return pool.read(buffer).wait(20)


@pytest.mark.parametrize("size", [100, 1024, 2500])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_copy_that_fails_leaves_the_ring_usable(
    device: AssembledDevice,
    ring: Ring,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    size: int,
) -> None:
    buffer, data = device.create_buffer(size), bytes_of(size)

    def fail() -> None:
        raise error

    with monkeypatch.context() as patch:
        during_copies(patch, fail)
        with pytest.raises(error) as kept:
            ring.upload(data, buffer)
    for _ in range(4):
        ring.upload(data, buffer)
    assert (peek(device, buffer) == data).all()
    assert kept.tb is not None  # which would have kept the slice


def test_rows_that_fail_leave_the_ring_usable(
    device: AssembledDevice, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    texture, data = device.create_texture(4, 4), bytes_of(64).reshape(4, 4, 4)

    def fail() -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        during_copies(patch, fail)
        with pytest.raises(MemoryError) as kept:
            ring.upload(data, texture)
    ring.upload(data, texture)
    assert (peek(device, texture) == data.reshape(-1)).all()
    assert kept.tb is not None


def test_the_error_of_an_upload_keeps_no_memory(
    device: AssembledDevice, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps the frames that it came through, and they the slice, as long as somebody keeps it."""
    buffer = device.create_buffer(2500)
    during_copies(monkeypatch, buffer.close)
    with pytest.raises(Closed) as kept:
        ring.upload(bytes_of(2500), buffer)
    frames = [entry.frame.f_locals for entry in kept.traceback]
    slices = [local for frame in frames for local in frame.values() if isinstance(local, Slice)]
    assert slices
    assert not ring.state.blocks[0].outstanding
    arrays = [local for frame in frames for local in frame.values() if isinstance(local, np.ndarray)]
    blocks = [block.allocation.native.memory for block in ring.state.blocks]
    assert not any(np.shares_memory(array, block) for array in arrays for block in blocks)


def test_close_leaves_a_block_to_the_copy_into_it(
    device: AssembledDevice, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer, blocks = device.create_buffer(2500), [block.allocation for block in ring.state.blocks]
    freed: list[list[bool]] = []

    def close() -> None:
        ring.close()
        freed.append([block.freed for block in blocks])

    during_copies(monkeypatch, close)
    with pytest.raises(Closed, match="ring was closed"):
        ring.upload(bytes_of(2500), buffer)
    assert freed == [[False, True, True]]
    device.allocator.sweep()
    assert all(block.freed for block in blocks)


def test_a_failed_flush_gives_the_new_slice_back(
    device: AssembledDevice, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = device.create_buffer(1024)
    take(ring, 1024).commit(buffer)

    def refuse(*_: object) -> None:
        raise KernelError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(device, "submit_commands", refuse)
        for get in (ring.allocate, ring.reserve):
            with pytest.raises(KernelError) as kept:
                get(1024)
            assert kept.tb is not None
    ring.advance().wait(20)
    assert ring.stats().submissions == 1


def test_a_ruined_target_is_refused_and_spares_the_others(
    device: AssembledDevice, ring: Ring, ruin: Callable[[DeviceBuffer], None]
) -> None:
    bad, good = device.create_buffer(64), device.create_buffer(64)
    ruin(bad)
    data = bytes_of(64)
    for _ in range(4):
        with pytest.raises(KernelError, match="divide"):
            ring.upload(data, bad)
        ring.upload(data, good)
    slot = ring.reserve(64, 20)
    slot.view[:] = 7
    with pytest.raises(KernelError, match="divide"):
        slot.commit(bad)
    slot.commit(good)  # as before the error
    ring.advance()
    assert (arrived(device, good) == 7).all()


def committed(ring: Ring, *targets: DeviceBuffer) -> None:
    for number, target in enumerate(targets, 1):
        slot: Slice = take(ring, 64)
        slot.view[:] = number
        slot.commit(target)


def test_a_target_ruined_after_commit_is_dropped_and_told_once(
    device: AssembledDevice, ring: Ring, ruin: Callable[[DeviceBuffer], None]
) -> None:
    bad, good = device.create_buffer(64), device.create_buffer(64)
    committed(ring, bad, good, bad)
    ruin(bad)
    with pytest.raises(KernelError, match="divide"):
        ring.advance()
    ring.advance().wait(20)
    stats = ring.stats()
    assert (stats.bytes_in_flight, stats.bytes_staged, stats.submissions) == (0, 192, 1)
    assert (arrived(device, good) == 2).all()


def test_an_upload_tells_of_its_own_target_alone(
    device: AssembledDevice, ring: Ring, ruin: Callable[[DeviceBuffer], None]
) -> None:
    bad, good = device.create_buffer(64), device.create_buffer(64)
    committed(ring, bad)
    ruin(bad)
    data = bytes_of(64)
    ring.upload(data, good)
    assert (arrived(device, good) == data).all()
    with pytest.raises(KernelError, match="divide"):
        ring.close()
    assert ring.closed
    assert not bad.allocation.pins


def test_a_block_of_nothing_but_ruined_targets_comes_back(
    device: AssembledDevice, ring: Ring, ruin: Callable[[DeviceBuffer], None]
) -> None:
    bad = device.create_buffer(64)
    committed(ring, bad)
    ruin(bad)
    with pytest.raises(KernelError):
        ring.advance()
    for _ in range(2 * ring.ring_count):
        take(ring, 1024).release()
        ring.advance()
    assert ring.stats().submissions == 0


def test_the_error_of_the_body_is_the_one_to_show(
    device: AssembledDevice, ruin: Callable[[DeviceBuffer], None]
) -> None:
    bad = device.create_buffer(64)
    ring = device.staging_ring(buffer_size=1024)

    def body() -> None:
        with ring:
            committed(ring, bad)
            ruin(bad)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()
    assert ring.closed


def test_a_lane_that_failed_is_told_by_advance_and_not_by_commit(device: AssembledDevice, ring: Ring) -> None:
    good = device.create_buffer(1024)
    device.lanes["upload"].timeline.fail(KernelError("the lane itself"))
    first, second = take(ring, 1024), take(ring, 1024)
    second.view[:] = np.uint8(1)
    first.commit(good)
    second.commit(good)
    for _ in range(2):
        with pytest.raises(KernelError, match="the lane itself"):
            ring.advance()


@pytest.mark.parametrize(
    "error", [KernelError("of forge3d"), ZeroDivisionError("of a driver"), KeyboardInterrupt()]
)
def test_a_view_that_fails_keeps_no_slice(
    device: AssembledDevice, ring: Ring, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """An error that its own frames kept would keep the slice until the collector came."""

    def fail(_block: object) -> None:
        raise error

    monkeypatch.setattr(type(ring.state.blocks[0].allocation.native), "view", fail)

    def stage() -> None:
        try:
            ring.reserve(64).view  # noqa: B018
        except BaseException:
            pass

    gc.disable()
    try:
        stage()
        error.__traceback__ = None
        assert not ring.state.blocks[0].outstanding
    finally:
        gc.enable()
