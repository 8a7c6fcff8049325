"""Large reads: pieces land while the device copies the rest, and whatever ends one leaves the pool whole."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Cancelled, Closed, DeviceLost, FenceTimeout, UsageError
from forge3d_core.readback import pool as pools
from forge3d_core.transfer.moving import MOVER
from forge3d_core.transfer.tuning import Tuning
from forge3d_core.transfer.workers import Crew

PIECE = 64 * 1024
ALIGNED = "?pitch=256&align=4"


@pytest.fixture(autouse=True)
def large_reads_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "PIECES_BYTES", 1)


@pytest.fixture
def open_pieces(open_device: Callable[..., AssembledDevice]) -> Callable[..., AssembledDevice]:
    """Return a function that opens a device whose reads come in pieces of 64 KiB, with workers of its own."""

    def make(selector: str = "") -> AssembledDevice:
        device = open_device(selector)
        device.transfers.reading = Tuning(share=PIECE // 2, smallest=PIECE, largest=PIECE, helpers=3)
        device.copier.crew, device.copier.threads = Crew(threads=3, idle=0.01), 4
        return device

    return make


@pytest.fixture
def device(open_pieces: Callable[..., AssembledDevice]) -> AssembledDevice:
    return open_pieces()


def filled(device: AssembledDevice, nbytes: int, seed: int = 1) -> tuple[Any, Any]:
    """Return a buffer and its bytes."""
    data = np.random.default_rng(seed).integers(0, 256, nbytes, dtype=np.uint8)
    buffer = device.create_buffer(nbytes)
    np.asarray(buffer.native)[:nbytes] = data
    return buffer, data


@pytest.mark.parametrize("selector", ["", ALIGNED, "?chaos=1&seed=5", "?chaos=1&seed=6&align=4"])
@pytest.mark.parametrize("into", [False, True])
@pytest.mark.parametrize("nbytes", [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 3, 9 * PIECE])
def test_every_byte_comes_home(
    open_pieces: Callable[..., AssembledDevice], selector: str, into: bool, nbytes: int
) -> None:
    device = open_pieces(selector)
    buffer, data = filled(device, nbytes + 16)
    with device.readback_pool() as pool:
        for offset in (0, 1, 4, 7):
            out = np.zeros(nbytes, np.uint8) if into else None
            read = pool.read(buffer, offset=offset, nbytes=nbytes, out=out).wait(20)
            assert (read is out) == into
            assert (read == data[offset : offset + nbytes]).all()
        assert pool.stats().completed_operations == 4
        assert pool.stats().pending_operations == 0


LAYOUTS: dict[str, Callable[[int], Any]] = {
    "every third": lambda count: np.zeros(3 * count, np.float32)[::3],
    "backwards": lambda count: np.zeros(count, np.float32)[::-1],
    "columns": lambda count: np.zeros((count // 7, 7), np.float32).T,
    "a field": lambda count: np.zeros(count, [("a", "u1"), ("b", "f4"), ("c", "u1")])["b"],
    "a part of three axes": lambda count: np.zeros((count // 35, 9, 11), np.float32)[:, 2:7, 1:8],
    "axes exchanged": lambda count: np.zeros((5, count // 35, 7), np.float32).transpose(2, 0, 1),
    "bytes in threes": lambda count: np.zeros((count * 4 // 3, 2), "V3")[:, 1],
}


@pytest.mark.parametrize("selector", ["", ALIGNED])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pieces", [1, 1 << 40], ids=["in pieces", "whole"])
def test_an_array_with_gaps_is_filled_and_nothing_beside_it(
    open_pieces: Callable[..., AssembledDevice],
    monkeypatch: pytest.MonkeyPatch,
    selector: str,
    layout: str,
    pieces: int,
) -> None:
    monkeypatch.setattr(pools, "PIECES_BYTES", pieces)
    out = LAYOUTS[layout](3 * 5 * 7 * 1000)
    beside = out.base
    while beside.base is not None:
        beside = beside.base
    device = open_pieces(selector)
    buffer, data = filled(device, out.nbytes + 8)
    with device.readback_pool() as pool:
        for offset in (0, 3, 8):
            beside.view(np.uint8)[...] = 0
            assert pool.read(buffer, offset=offset, nbytes=out.nbytes, out=out).wait(20) is out
            expected = data[offset : offset + out.nbytes]
            assert out.tobytes() == expected.tobytes()
            assert np.count_nonzero(beside.view(np.uint8)) == np.count_nonzero(expected)


@pytest.mark.parametrize("pieces", [1, 1 << 40], ids=["in pieces", "whole"])
@pytest.mark.parametrize("selector", ["", ALIGNED])
def test_texels_in_an_array_with_gaps(
    open_pieces: Callable[..., AssembledDevice],
    monkeypatch: pytest.MonkeyPatch,
    selector: str,
    pieces: int,
) -> None:
    monkeypatch.setattr(pools, "PIECES_BYTES", pieces)
    device = open_pieces(selector)
    texture = device.create_texture(602, 200, "rg8unorm")
    image = np.random.default_rng(1).integers(0, 256, (200, 602, 2), dtype=np.uint8)
    np.asarray(texture.native)[:] = image.reshape(200, -1)
    whole = np.zeros((400, 610, 3), np.uint8)
    out = whole[380:0:-2, 5:605, ::2]
    with device.readback_pool() as pool:
        assert pool.read(texture, origin=(1, 3), size=(600, 190), out=out).wait(20) is out
        assert (out == image[3:193, 1:-1]).all()
        assert np.count_nonzero(whole) == np.count_nonzero(out)
        with pytest.raises(UsageError, match="shape of what is read"):
            pool.read(texture, size=(570, 200), out=out)


@pytest.mark.parametrize("selector", ["", ALIGNED])
@pytest.mark.parametrize("width", [5, 200, 3000])
def test_rows(open_pieces: Callable[..., AssembledDevice], selector: str, width: int) -> None:
    device = open_pieces(selector)
    texture = device.create_texture(width + 2, 200, "rg8unorm")
    image = np.random.default_rng(1).integers(0, 256, (200, width + 2, 2), dtype=np.uint8)
    np.asarray(texture.native)[:] = image.reshape(200, -1)
    with device.readback_pool() as pool:
        read = pool.read(texture, origin=(1, 3), size=(width, 190)).wait(20)
    assert (read == image[3:193, 1:-1]).all()


def test_what_has_come_lands_while_the_rest_is_copied(
    device: AssembledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it waits for the last piece, the thread has moved the first ones."""
    buffer, data = filled(device, 4 * PIECE)
    out, seen = np.zeros(4 * PIECE, np.uint8), []
    device.transfers.reading = attrs.evolve(device.transfers.reading, helpers=0)
    with device.readback_pool() as pool:
        handle = pool.read(buffer, out=out)
        assert len(handle.pieces) == 4
        wait = handle.point.timeline.wait

        def waiting(value: int, *rest: Any) -> None:
            seen.append((value, int((out != 0).sum())))
            wait(value, *rest)

        monkeypatch.setattr(type(handle.point.timeline), "wait", lambda _self, *given: waiting(*given))
        assert (handle.wait(20) == data).all()
    assert [value for value, _ in seen] == sorted(value for value, _ in seen)
    assert 0 < seen[1][1] < seen[-1][1] < 4 * PIECE


def test_a_snapshot_is_whole(
    open_pieces: Callable[..., AssembledDevice], background: Callable[..., Any], patience: float
) -> None:
    """What another thread writes meanwhile comes before all pieces of a read, or after them."""
    device, rounds = open_pieces("?chaos=1&seed=9"), 30
    buffer = device.create_buffer(4 * PIECE)

    def write() -> None:
        for value in range(rounds):
            device.submit(device.command_list().fill(buffer, value))

    writing = background(write)
    with device.readback_pool() as pool:
        for _ in range(rounds):
            assert len(set(pool.read(buffer).wait(patience)[:: PIECE // 2].tolist())) == 1
    writing.result(patience)


def test_a_read_in_pieces_that_times_out_may_still_come(device: AssembledDevice) -> None:
    buffer, data = filled(device, 4 * PIECE)
    with device.readback_pool() as pool:
        with device.driver.hold("download"):
            handle = pool.read(buffer)
            with pytest.raises(FenceTimeout):
                handle.wait(0.01)
        assert (handle.wait(20) == data).all()


@pytest.mark.parametrize(
    ("end", "error"), [("cancel", Cancelled), ("pool", Cancelled), ("close", Closed), ("lose", DeviceLost)]
)
def test_an_end_in_the_middle(
    device: AssembledDevice, background: Callable[..., Any], patience: float, end: str, error: type[Exception]
) -> None:
    buffer, _ = filled(device, 8 * PIECE)
    pool = device.readback_pool()
    inside = threading.Event()
    hold = device.driver.hold("download")
    handle = pool.read(buffer)
    reading = background(lambda: (inside.set(), handle.wait())[1])
    assert inside.wait(patience)
    ends = {"cancel": handle.cancel, "pool": pool.close, "close": device.close}
    ends.get(end, lambda: device.driver.lose("on purpose"))()
    if end in ("cancel", "pool"):
        hold.release()
    with pytest.raises(error):
        reading.result(patience)
    if end == "cancel":
        assert not pool.read(buffer).wait(patience)[:0].size
        assert pool.stats().pending_operations == 0


@pytest.mark.parametrize("nth", [1, 3, 8])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_copy_that_fails_may_be_taken_again(
    device: AssembledDevice, monkeypatch: pytest.MonkeyPatch, nth: int, error: type[BaseException]
) -> None:
    buffer, data = filled(device, 8 * PIECE)
    copies, copyto = iter(range(1, 1000)), MOVER.copy

    def failing(*given: Any) -> None:
        if next(copies) == nth:
            raise error
        copyto(*given)

    with device.readback_pool() as pool:
        handle = pool.read(buffer)
        with monkeypatch.context() as patch:
            patch.setattr(MOVER, "copy", failing)
            with pytest.raises(error):
                handle.wait(20)
        assert (handle.wait(20) == data).all()
        assert pool.stats().pending_operations == 0


def test_leases_and_coroutines_do_as_ever(device: AssembledDevice) -> None:
    buffer, data = filled(device, 5 * PIECE + 4)

    async def take() -> Any:
        return await (await pool.read_async(buffer))

    with device.readback_pool() as pool:
        with pool.read(buffer).lease(20) as shown:
            assert (shown == data).all()
            del shown
        assert (asyncio.run(take()) == data).all()
        handle = pool.read(buffer)
        handle.point.wait(20)
        assert (handle.try_get() == data).all()


def test_many_threads_wait_for_one_read(
    device: AssembledDevice, background: Callable[..., Any], patience: float
) -> None:
    buffer, data = filled(device, 9 * PIECE)
    with device.readback_pool() as pool:
        for _ in range(5):
            handle = pool.read(buffer)
            results = [taking.result(patience) for taking in [background(handle.wait) for _ in range(4)]]
            assert all(result is results[0] for result in results)
            assert (results[0] == data).all()
