"""Large uploads: every byte arrives once, and whatever ends one leaves the device whole."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from forge3d_core.deadline import NEVER
from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import BudgetError, Closed, DeviceLost, FenceTimeout, UsageError
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.transfer import workers
from forge3d_core.transfer.source import Run
from forge3d_core.transfer.upload import BulkUpload, Goal
from forge3d_core.transfer.workers import Crew

from .conftest import CHUNK

ALIGNED = "?pitch=256&align=4"
SIZES = [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 17, 20 * CHUNK - 3]


def bytes_of(nbytes: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(0, 256, nbytes, dtype=np.uint8)


def peek(device: AssembledDevice, buffer: DeviceBuffer) -> Any:
    device.wait_idle(20)
    return np.asarray(buffer.native)[: buffer.nbytes]


def during_copies(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Have ``act`` called in the middle of every copy to a chunk."""
    fill = Run.fill
    monkeypatch.setattr(Run, "fill", lambda part, memory: (act(), fill(part, memory))[1])


def usable(device: AssembledDevice) -> None:
    """Check that uploads work, and that nothing of the failed ones stays in the budget."""
    data = bytes_of(9 * CHUNK, 5)
    buffer = device.create_buffer(data.nbytes)
    with device.staging_ring(buffer_size=4096) as ring:
        ring.upload(data, buffer, timeout=20).wait(20)
        assert (peek(device, buffer) == data).all()
    device.transfers._staging.reclaim(1 << 40)
    gc.collect()
    assert device.budget.metrics().host_visible_bytes == 0


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


def test_a_timeout_leaves_everything_usable(bulk: AssembledDevice) -> None:
    buffer = bulk.create_buffer(64 * CHUNK)
    with (
        bulk.staging_ring(buffer_size=4096) as ring,
        bulk.native.hold("upload"),
        pytest.raises(FenceTimeout, match="upload"),
    ):
        ring.upload(bytes_of(64 * CHUNK), buffer, timeout=0.01)
    usable(bulk)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("nth", [1, 2, 9])
def test_a_copy_that_fails_leaves_everything_usable(
    bulk: AssembledDevice, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], nth: int
) -> None:
    copies = iter(range(1, 1000))

    def act() -> None:
        if next(copies) == nth:
            raise error

    with monkeypatch.context() as patch:
        during_copies(patch, act)
        with bulk.staging_ring(buffer_size=4096) as ring, pytest.raises(error) as kept:
            ring.upload(bytes_of(20 * CHUNK), bulk.create_buffer(20 * CHUNK))
    usable(bulk)
    assert kept.tb is not None  # which has the frames, and they the chunks


@pytest.mark.parametrize("nth", [1, 2, 5])
def test_a_submission_that_is_interrupted(
    bulk: AssembledDevice, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    submit, calls = bulk.submit_commands, iter(range(1, 1000))

    def interrupted(*arguments: Any) -> Any:
        point = submit(*arguments)
        if next(calls) == nth:
            raise KeyboardInterrupt
        return point

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "submit_commands", interrupted)
        with bulk.staging_ring(buffer_size=4096) as ring, pytest.raises(KeyboardInterrupt):
            ring.upload(bytes_of(30 * CHUNK), bulk.create_buffer(30 * CHUNK))
    usable(bulk)


def test_a_target_that_is_closed_meanwhile_stays(
    bulk: AssembledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = bulk.create_buffer(20 * CHUNK)
    during_copies(monkeypatch, buffer.close)
    with bulk.staging_ring(buffer_size=4096) as ring:
        ring.upload(bytes_of(20 * CHUNK), buffer).wait(20)
    bulk.wait_idle(20)
    assert bulk.budget.metrics().device_local_bytes == 0


@pytest.mark.parametrize(("end", "error"), [("close", Closed), ("lose", DeviceLost), ("ring", Closed)])
def test_an_end_in_the_middle(
    bulk: AssembledDevice, background: Callable[..., Any], patience: float, end: str, error: type[Exception]
) -> None:
    ring, buffer = bulk.staging_ring(buffer_size=4096), bulk.create_buffer(64 * CHUNK)
    hold = bulk.native.hold("upload")
    uploading = background(ring.upload, bytes_of(64 * CHUNK), buffer)
    while not bulk.lanes["upload"].timeline.submitted:
        pass
    {"close": bulk.close, "lose": lambda: bulk.native.lose("on purpose"), "ring": ring.abandon}[end]()
    with pytest.raises(error):
        uploading.result(patience)
    if end == "ring":
        hold.release()
        usable(bulk)


def test_a_lane_that_stands_still_holds_up_no_other(
    bulk: AssembledDevice, background: Callable[..., Any]
) -> None:
    data = bytes_of(64 * CHUNK)
    still, free = bulk.create_buffer(data.nbytes), bulk.create_buffer(data.nbytes)
    rings = bulk.staging_ring(buffer_size=4096), bulk.staging_ring(buffer_size=4096, lane="compute")
    with bulk.native.hold("upload"):
        uploading = background(rings[0].upload, data, still)
        while not bulk.lanes["upload"].timeline.submitted:
            pass
        rings[1].upload(data, free, timeout=20).wait(20)
    uploading.result(20).wait(20)
    assert (peek(bulk, still) == data).all()
    assert (peek(bulk, free) == data).all()


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


def test_where_no_thread_starts(open_bulk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    device = open_bulk()
    ring, buffer, data = device.staging_ring(), device.create_buffer(9 * CHUNK), bytes_of(9 * CHUNK)
    ring.upload(data[:1], buffer).wait(20)  # starts the lane's own

    def none(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(workers, "start_thread", none)
    ring.upload(data, buffer)
    assert (peek(device, buffer) == data).all()


def test_nothing_is_staged_of_what_is_refused(bulk: AssembledDevice) -> None:
    ring, buffer = bulk.staging_ring(), bulk.create_buffer(64)
    with pytest.raises(UsageError):
        ring.upload(np.zeros(65, np.uint8), buffer)
    assert bulk.lanes["upload"].timeline.submitted == 0
    with pytest.raises(BudgetError):
        bulk.budget.reserve(1 << 40)


class FakeChunk:
    """A chunk without memory."""

    allocation = None

    def __init__(self) -> None:
        self.native = self
        self.point: Landing | None = None
        self.given = False

    def view(self) -> None:
        assert self.free, "filled while in flight"

    @property
    def free(self) -> bool:
        return self.point is None or self.point.done


class Interleaved:
    """An upload whose workers come in wherever the calling thread lets go, by a seed, all on this thread.

    Chunks are made here, and the device is done with one when the seed says so. A chunk may be filled only by
    the step that has it, and not while it is in flight.
    """

    def __init__(self, seed: int, parts: int, most: int) -> None:
        self.draw = random.Random(seed)
        self.parts, self.most = parts, most
        self.filled: list[int] = []
        self.made: list[Any] = []
        self.depth = self.submitted = self.completed = 0
        self.submitting = False

    def __len__(self) -> int:
        return self.parts

    def part(self, number: int) -> Any:
        return SimpleNamespace(
            nbytes=1, room=1, fill=lambda _view: self.fill(number), command=lambda native: (native, number)
        )

    def fill(self, number: int) -> None:
        self.let_go()
        self.filled.append(number)

    def take(self, _nbytes: int) -> Any:
        chunk = FakeChunk()
        self.made.append(chunk)
        return chunk if self.draw.random() < 0.8 else None

    def give(self, chunk: Any) -> None:
        assert not chunk.given
        chunk.given = True

    def drop(self, _chunks: Any) -> None:
        raise AssertionError("nothing failed")

    def submit(self, _lane: str, commands: Any, *_rest: Any) -> Any:
        assert not self.submitting, "two submissions at once"
        self.submitting = True
        self.let_go()
        self.submitting = False
        self.submitted += 1
        return Landing(self, self.submitted, [number for _, number in commands])

    def let_go(self) -> None:
        if self.depth < 4:
            self.depth += 1
            while self.draw.random() < 0.5:
                self.completed = min(self.submitted, self.completed + self.draw.randrange(2))
                self.upload._help()
            self.depth -= 1


class Landing:
    """A point of that."""

    def __init__(self, world: Interleaved, value: int, numbers: list[int]) -> None:
        self.world, self.value, self.numbers = world, value, numbers

    @property
    def done(self) -> bool:
        return self.world.completed >= self.value

    def wait(self, _timeout: float) -> None:
        self.world.completed = max(self.world.completed, self.value)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_wherever_workers_come_in_each_part_is_submitted_once(most: int) -> None:
    for seed in range(300):
        world = Interleaved(seed, parts=1 + seed % 17, most=most)
        goal = Goal(world.submit, "upload", None, lambda: None, NEVER)  # type: ignore[arg-type]
        world.upload = BulkUpload(world, CallGuard(), world, goal, most)  # type: ignore[arg-type]
        first = world.take(1) or world.made[-1]
        point = world.upload.run(Crew(threads=1), 0, first, 1)
        numbers = [number for flight in world.upload.flights for number in flight.point.numbers]
        assert sorted(numbers) == sorted(world.filled) == list(range(len(world))), f"seed {seed}"
        assert point.value == world.submitted, f"seed {seed}"
        assert len(world.upload._mine) <= most, f"seed {seed}"
        assert all(chunk.given for chunk in world.upload._mine), f"seed {seed}"
