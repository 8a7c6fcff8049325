from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forge3d_core.device import AssembledDevice, assemble
from forge3d_core.errors import (
    BudgetExceeded,
    Busy,
    Cancelled,
    Closed,
    FenceTimeout,
    ForeignObject,
    KernelError,
    OutOfRange,
    StateError,
    UsageError,
)
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.memory import DeviceBuffer
from forge3d_core.protocols import KernelSource, Lease, ReadbackHandle, ReadbackPool, ReadbackStream
from forge3d_core.readback import Pool
from forge3d_core.readback_handle import Handle
from forge3d_core.readback_region import block_size

ALIGNED = "?pitch=256&align=4"
SIZE = 10_000


@pytest.fixture
def data() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(3).integers(0, 256, SIZE, dtype=np.uint8)


def poke(memory: Any, data: np.ndarray[Any, Any]) -> None:
    """Write device memory past the staging ring."""
    np.asarray(memory.native).reshape(-1)[: data.nbytes] = data.reshape(-1).view(np.uint8)


@pytest.fixture
def buffer(device: AssembledDevice, data: np.ndarray[Any, Any]) -> DeviceBuffer:
    made = device.create_buffer(SIZE)
    poke(made, data)
    return made


@pytest.fixture
def pool(device: AssembledDevice) -> Pool:
    return device.readback_pool(max_pending_ops=4, buffer_size="4 KiB")


def small_pool(device: AssembledDevice, **config: Any) -> Pool:
    return device.readback_pool(**{"max_pending_ops": 1, "buffer_size": 4096, **config})


def test_a_pool_satisfies_its_protocols(pool: Pool, buffer: DeviceBuffer) -> None:
    assert isinstance(pool, ReadbackPool)
    assert isinstance(pool.stream(buffer), ReadbackStream)
    handle = pool.read(buffer)
    assert isinstance(handle, ReadbackHandle)
    assert isinstance(handle.lease(), Lease)


@pytest.mark.parametrize("selector", ["", ALIGNED])
@pytest.mark.parametrize("offset", [0, 1, 3, 4, 9000])
@pytest.mark.parametrize("nbytes", [0, 1, 2, 5, 1000])
def test_exactly_the_bytes_of_a_region(
    open_device: Callable[..., AssembledDevice], data: Any, selector: str, offset: int, nbytes: int
) -> None:
    device = open_device(selector)
    buffer = device.create_buffer(SIZE)
    poke(buffer, data)
    with device.readback_pool(buffer_size=64) as pool:
        read = pool.read(buffer, offset=offset, nbytes=nbytes)
        assert read.wait(20).tobytes() == data[offset : offset + nbytes].tobytes()
        with pool.read(buffer, offset=offset, nbytes=nbytes).lease(20) as lent:
            assert lent.tobytes() == data[offset : offset + nbytes].tobytes()
            del lent


@pytest.mark.parametrize(
    ("region", "dtype", "shape"),
    [
        ({}, "u1", (SIZE,)),
        ({"dtype": "f4"}, "f4", (SIZE // 4,)),
        ({"dtype": ">i2", "shape": (3, 5)}, ">i2", (3, 5)),
        ({"dtype": "f8", "shape": 7, "offset": 3}, "f8", (7,)),
        ({"dtype": "u4", "shape": ()}, "u4", ()),
        ({"dtype": "u4", "shape": (4, 0)}, "u4", (4, 0)),
        ({"offset": SIZE}, "u1", (0,)),
        ({"nbytes": 12, "dtype": [("a", "u1", (3,)), ("b", "f4")]}, None, None),
    ],
)
def test_dtypes_and_shapes(
    pool: Pool, buffer: DeviceBuffer, data: Any, region: Any, dtype: Any, shape: Any
) -> None:
    if dtype is None:
        with pytest.raises(UsageError, match="whole number"):
            pool.read(buffer, **region)
        return
    start = region.get("offset", 0)
    expected = data[start : start + int(np.prod(shape)) * np.dtype(dtype).itemsize]
    for got in (pool.read(buffer, **region).wait(20), pool.read(buffer, **region).lease(20).array):
        assert (got.dtype, got.shape) == (np.dtype(dtype), shape)
        assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("region", "error"),
    [
        ({"offset": -1}, OutOfRange),
        ({"offset": SIZE + 1}, OutOfRange),
        ({"offset": 1, "nbytes": SIZE}, OutOfRange),
        ({"nbytes": -1}, OutOfRange),
        ({"shape": (1 << 32, 1 << 32)}, OutOfRange),
        ({"nbytes": 3, "dtype": "f4"}, UsageError),
        ({"nbytes": 8, "dtype": "f4", "shape": 3}, UsageError),
        ({"nbytes": 1.5}, UsageError),
        ({"shape": -1}, UsageError),
        ({"shape": "ab"}, UsageError),
        ({"dtype": object}, UsageError),
        ({"dtype": "no such"}, UsageError),
        ({"size": (1, 1)}, UsageError),
        ({"nbytes": 8, "out": np.empty(7, np.uint8)}, UsageError),
        ({"nbytes": 8, "out": np.empty(16, np.uint8)[::2]}, UsageError),
        ({"nbytes": 8, "out": bytearray(8)}, UsageError),
        ({"nbytes": 8, "out": np.empty(1, object)}, UsageError),
        ({"after": [3]}, UsageError),
    ],
)
def test_what_cannot_be_read_is_said_and_takes_nothing(
    pool: Pool, buffer: DeviceBuffer, region: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        pool.read(buffer, **region)
    stats = pool.stats()
    assert (stats.total_operations, stats.pending_operations) == (0, 0)
    assert pool.read(buffer).wait(20).nbytes == SIZE


@pytest.mark.parametrize("selector", ["", ALIGNED])
@pytest.mark.parametrize(("format", "dtype"), [("rgba8unorm", "u1"), ("r16uint", "u2"), ("rg32float", "f4")])
def test_rows_of_a_texture_come_without_their_padding(
    open_device: Callable[..., AssembledDevice], selector: str, format: str, dtype: str
) -> None:
    device = open_device(selector)
    texture = device.create_texture(37, 11, format)
    channels = texture.format.channels
    shape = (11, 37, channels) if channels > 1 else (11, 37)
    image = np.random.default_rng(5).integers(0, 200, shape).astype(dtype)
    poke(texture, image)
    with device.readback_pool() as pool:
        for region, expected in (
            ({}, image),
            ({"origin": (3, 4)}, image[4:, 3:]),
            ({"origin": (3, 4), "size": (5, 6)}, image[4:10, 3:8]),
            ({"size": (1, 1)}, image[:1, :1]),
            ({"size": (0, 4)}, image[:4, :0]),
            ({"origin": (37, 11)}, image[11:, 37:]),
        ):
            owned = pool.read(texture, **region).wait(20)
            lease = pool.read(texture, **region).lease(20)
            for got in (owned, lease.array):
                assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
                assert (got == expected).all()
            del got
            lease.release()
        for wrong in ({"offset": 4}, {"nbytes": 4}, {"shape": (2, 2)}, {"dtype": "S3"}, {"size": (38, 1)}):
            with pytest.raises(UsageError):
                pool.read(texture, **wrong)


def test_foreign_and_closed_sources(
    pool: Pool, buffer: DeviceBuffer, open_device: Callable[..., AssembledDevice]
) -> None:
    with pytest.raises(ForeignObject):
        pool.read(open_device().create_buffer(4))
    with pytest.raises(ForeignObject):
        pool.read(np.zeros(4))  # type: ignore[arg-type]
    buffer.close()
    with pytest.raises(Closed):
        pool.read(buffer)


# -- when --


def test_a_read_returns_at_once_and_is_not_early(
    device: AssembledDevice, pool: Pool, buffer: DeviceBuffer
) -> None:
    with device.native.hold("download"):
        handle = pool.read(buffer)
        assert not handle.is_complete
        assert handle.try_get() is None
        with pytest.raises(FenceTimeout):
            handle.wait(0)
        with pytest.raises(FenceTimeout):
            handle.lease(0)
    handle.point.wait(20)
    assert handle.is_complete
    assert handle.try_get() is handle.wait()


def test_the_bytes_are_those_of_the_submission(
    device: AssembledDevice, pool: Pool, buffer: DeviceBuffer, data: Any
) -> None:
    with device.native.hold("download"):
        before = pool.read(buffer)
        overwritten = device.submit(device.command_list().fill(buffer, 7))
        after = pool.read(buffer)
        assert not overwritten.done
    assert (before.wait(20) == data).all()
    assert (after.wait(20) == 7).all()


def test_any_order_any_number_and_the_same_answer(pool: Pool, buffer: DeviceBuffer, data: Any) -> None:
    """Ten reads before the first wait, where four may be pending."""
    handles = [pool.read(buffer, offset=i * 900, nbytes=850 + i) for i in range(10)]
    for i in (7, 0, 9, 3, 1, 2, 8, 6, 5, 4):
        first = handles[i].wait(20)
        assert (first == data[i * 900 : i * 900 + 850 + i]).all()
        assert handles[i].wait() is first
        assert handles[i].try_get() is first
    stats = pool.stats()
    assert (stats.total_operations, stats.completed_operations, stats.pending_operations) == (10, 10, 0)
    assert stats.bytes_read == sum(850 + i for i in range(10))
    assert stats.block_allocations == stats.blocks == 4


def test_nothing_is_allocated_in_the_steady_state(device: AssembledDevice, buffer: DeviceBuffer) -> None:
    pool = device.readback_pool(max_pending_ops=2, buffer_size=64)
    for nbytes in (100, 9000, 9000):
        pool.read(buffer, nbytes=nbytes).wait(20)
    handles = [pool.read(buffer) for _ in range(3)]
    steady = pool.stats().block_allocations
    for handle in handles:
        handle.wait(20)
    for nbytes in (1, SIZE, 5, 9000, SIZE, 4096) * 3:
        pool.read(buffer, nbytes=nbytes).wait(20)
    assert pool.stats().block_allocations == steady
    assert pool.stats().blocks <= 2
    assert device.budget.metrics().host_visible_bytes == pool.stats().block_bytes


@pytest.mark.parametrize("nbytes", [1, 4095, 4096, 4097, 100_000, 1 << 20, (1 << 20) + 1, 33_000_001])
def test_blocks_waste_little(nbytes: int) -> None:
    size = block_size(nbytes)
    assert size % 4096 == 0
    assert 0 <= size - nbytes <= max(4095, nbytes / 16)


def test_a_pooled_block_shows_no_other_reads_bytes(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any
) -> None:
    pool = small_pool(device)
    kept = pool.read(buffer, nbytes=4000).wait(20)
    poke(buffer, np.zeros(SIZE, np.uint8))
    assert not pool.read(buffer, nbytes=4000).wait(20).any()
    assert (kept == data[:4000]).all()


def test_out_receives_the_bytes(pool: Pool, buffer: DeviceBuffer, data: Any) -> None:
    out = np.zeros((25, 20), np.float32)
    handle = pool.read(buffer, nbytes=2000, out=out)
    assert handle.wait(20) is out
    assert out.tobytes() == data[:2000].tobytes()
    texture_out = np.zeros((4, 4, 4), np.uint8)
    scalar = np.zeros((), np.uint16)
    assert pool.read(buffer, nbytes=2, out=scalar).wait(20) is scalar
    assert scalar.tobytes() == data[:2].tobytes()
    assert texture_out.sum() == 0


# -- backpressure --


def test_waiting_for_a_block(
    device: AssembledDevice,
    buffer: DeviceBuffer,
    data: Any,
    background: Callable[..., Any],
    until: Any,
    patience: float,
) -> None:
    pool = small_pool(device)
    hold = device.native.hold("download")
    first = pool.read(buffer)
    second = background(pool.read, buffer, nbytes=10)
    until(lambda: pool.stats().waits == 1)
    assert pool.stats().pending_operations == 1
    assert not second.done()
    hold.release()
    assert (second.result(patience).wait(patience) == data[:10]).all()
    assert (first.wait(0) == data).all()


def test_waiting_for_a_block_times_out(device: AssembledDevice, buffer: DeviceBuffer) -> None:
    pool = small_pool(device, timeout=0.001)
    with device.native.hold("download"):
        handle = pool.read(buffer)
        with pytest.raises(FenceTimeout, match=r"'download'.*1 of 1 reads"):
            pool.read(buffer)
    lease = handle.lease(20)
    with pytest.raises(FenceTimeout, match="release a lease"):
        pool.read(buffer)
    lease.release()
    pool.read(buffer).wait(20)


@pytest.mark.parametrize("end", ["close", "cancel"])
def test_who_waits_for_a_block_notices(
    device: AssembledDevice,
    buffer: DeviceBuffer,
    background: Callable[..., Any],
    until: Any,
    patience: float,
    end: str,
) -> None:
    """A block that comes free otherwise, or a close, is noticed while the oldest read is stuck."""
    pool = small_pool(device, timeout=None, max_pending_ops=2)
    lease = pool.read(buffer).lease(20)
    with device.native.hold("download"):
        stuck = pool.read(buffer)
        waiting = background(pool.read, buffer)
        until(lambda: pool.stats().waits == 1)
        if end == "close":
            pool.close()
            assert isinstance(waiting.exception(patience), Closed)
        else:
            lease.release()
            assert not waiting.result(patience).is_complete
        assert not stuck.point.done
    lease.release()


def test_raising_when_busy(device: AssembledDevice, buffer: DeviceBuffer) -> None:
    pool = small_pool(device, backpressure="raise")
    with device.native.hold("download"):
        first = pool.read(buffer)
        with pytest.raises(Busy, match=r"1 read\(s\) are pending"):
            pool.read(buffer)
        assert pool.stats().waits == 1
    first.point.wait(20)
    pool.read(buffer).wait(20)  # the first has completed: its bytes move out of the way
    assert first.wait(0).nbytes == SIZE


def test_degrading_to_a_synchronous_read(
    device: AssembledDevice,
    buffer: DeviceBuffer,
    data: Any,
    background: Callable[..., Any],
    until: Any,
    patience: float,
) -> None:
    pool = small_pool(device, backpressure="degrade")
    hold = device.native.hold("download")
    first = pool.read(buffer)
    second = background(pool.read, buffer, offset=1)
    until(lambda: pool.stats().waits == 1 and pool.stats().total_operations == 2)
    assert pool.stats().pending_operations == 1
    hold.release()
    handle = second.result(patience)
    assert handle.is_complete
    assert (handle.wait(0) == data[1:]).all()
    assert (first.wait(patience) == data).all()
    stats = pool.stats()
    assert (stats.completed_operations, stats.total_operations, stats.blocks) == (2, 2, 1)
    assert device.budget.metrics().host_visible_bytes == stats.block_bytes


def test_one_block_serves_all_without_double_buffering(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any
) -> None:
    pool = device.readback_pool(double_buffered=False, max_pending_ops=4)
    handles = [pool.read(buffer, offset=i, nbytes=100) for i in range(5)]
    for i, handle in enumerate(handles):
        assert (handle.wait(20) == data[i : i + 100]).all()
    assert (pool.stats().blocks, pool.stats().block_allocations) == (1, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_pending_ops": 0},
        {"backpressure": "drop"},
        {"buffer_size": 0},
        {"buffer_size": "x"},
        {"depth": 3},
        {"lane": "no"},
    ],
)
def test_configurations_that_are_none(device: AssembledDevice, wrong: Any) -> None:
    with pytest.raises(UsageError):
        device.readback_pool(**wrong)
    assert device.budget.metrics().total_bytes == 0


# -- giving up --


@pytest.mark.parametrize("how", ["cancel", "drop"])
def test_who_gives_up_gives_the_block_back_when_the_device_is_done(
    device: AssembledDevice, buffer: DeviceBuffer, how: str
) -> None:
    pool = small_pool(device, backpressure="raise")
    with device.native.hold("download"):
        handle = pool.read(buffer)
        point = handle.point
        if how == "cancel":
            handle.cancel()
            handle.cancel()
        del handle
        gc.collect()
        assert pool.stats().cancelled_operations == 1
        assert pool.stats().pending_operations == 1  # the device may still write the block
        with pytest.raises(Busy):
            pool.read(buffer)
    point.wait(20)
    assert pool.stats().pending_operations == 0
    assert pool.read(buffer).wait(20).nbytes == SIZE


def test_a_cancelled_read_has_no_bytes_and_keeps_its_block_while_it_flies(
    device: AssembledDevice, buffer: DeviceBuffer
) -> None:
    pool = small_pool(device, backpressure="raise")
    with device.native.hold("download"):
        handle = pool.read(buffer)
        handle.cancel()
        for ask in (lambda: handle.wait(0), handle.try_get, lambda: handle.lease(0)):
            with pytest.raises(Cancelled):
                ask()
        assert pool.stats().pending_operations == 1, "the block went back under the device"
        with pytest.raises(Busy):
            pool.read(buffer)


def test_cancelling_too_late_is_fine(pool: Pool, buffer: DeviceBuffer) -> None:
    handle = pool.read(buffer)
    first = handle.wait(20)
    handle.cancel()
    assert handle.wait() is first
    assert pool.stats().cancelled_operations == 0


def test_a_failed_read_raises_and_is_counted(device: AssembledDevice, buffer: DeviceBuffer) -> None:
    def fail(_threads: object) -> None:
        raise RuntimeError("on purpose")

    pool = device.readback_pool()
    kernel = device.create_kernel(KernelSource("fail", {"host": fail}))
    with device.native.hold("download"):
        device.submit(device.command_list().dispatch(kernel, [], threads=1), lane="download")
        waited, asked, awaited = (pool.read(buffer) for _ in range(3))
    with pytest.raises(KernelError, match="on purpose"):
        waited.wait(20)
    with pytest.raises(KernelError):
        asked.try_get()
    with pytest.raises(KernelError):
        asyncio.run(_take(awaited))
    for handle in (waited, asked, awaited):
        with pytest.raises(KernelError):
            handle.wait(0)
        assert not handle.is_complete
    stats = pool.stats()
    assert (stats.total_operations, stats.failed_operations, stats.pending_operations) == (3, 3, 0)


async def _take(handle: Handle) -> Any:
    return await handle


# -- leases --


def test_a_lease_shows_the_block_and_keeps_it(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any
) -> None:
    pool = small_pool(device, backpressure="raise")
    lease = pool.read(buffer, dtype="u2").lease(20)
    array = lease.array
    assert (array == data.view("u2")).all()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    derived = array[10:20]
    poke(buffer, np.zeros(SIZE, np.uint8))
    with pytest.raises(Busy):
        pool.read(buffer)
    lease.release()
    lease.release()
    assert array.size == 0
    with pytest.raises(StateError, match="released"):
        _ = lease.array
    with pytest.raises(Busy):  # a derived array still shows the block
        pool.read(buffer)
    assert (derived == data.view("u2")[10:20]).all()
    del derived
    assert not pool.read(buffer).wait(20).any()


def test_a_dropped_lease_gives_back_with_its_last_array(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any
) -> None:
    pool = small_pool(device, backpressure="raise")
    array = pool.read(buffer).lease(20).array
    gc.collect()
    with pytest.raises(Busy):
        pool.read(buffer)
    assert (array == data).all()
    del array
    pool.read(buffer).wait(20)


def test_one_lease_at_a_time_and_none_after(pool: Pool, buffer: DeviceBuffer) -> None:
    handle = pool.read(buffer)
    with handle.lease(20), pytest.raises(StateError, match="leased already"):
        handle.lease()
    for ask in (handle.wait, handle.lease, handle.try_get):
        with pytest.raises(StateError, match="released"):
            ask()


def test_an_owned_copy_taken_during_the_lease_stays(pool: Pool, buffer: DeviceBuffer, data: Any) -> None:
    handle = pool.read(buffer)
    with handle.lease(20):
        owned = handle.wait(0)
    assert (owned == data).all()
    assert handle.wait(0) is owned


def test_a_lease_after_wait_shows_the_owned_array(pool: Pool, buffer: DeviceBuffer) -> None:
    handle = pool.read(buffer)
    owned = handle.wait(20)
    lease = handle.lease()
    assert np.shares_memory(lease.array, owned)
    assert not lease.array.flags.writeable
    assert owned.flags.writeable
    lease.release()
    with pytest.raises(StateError):
        _ = lease.array
    assert pool.stats().pending_operations == 0


def test_leases_outlive_the_pool_and_end_with_the_device(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any
) -> None:
    pool = device.readback_pool()
    lease = pool.read(buffer).lease(20)
    pool.close()
    assert (lease.array == data).all()
    assert device.budget.metrics().host_visible_bytes > 0
    array = lease.array
    device.close()
    assert array.size == 0, "an array over memory that the driver took along"
    with pytest.raises(StateError):
        _ = lease.array


def test_the_last_lease_of_a_closed_pool_gives_its_block_back(
    device: AssembledDevice, buffer: DeviceBuffer
) -> None:
    pool = device.readback_pool()
    lease = pool.read(buffer).lease(20)
    pool.close()
    lease.release()
    assert device.budget.metrics().host_visible_bytes == 0


# -- closing, budget, coroutines, streams --


def test_a_closed_pool(device: AssembledDevice, buffer: DeviceBuffer, data: Any) -> None:
    pool = device.readback_pool()
    landed, complete = pool.read(buffer), pool.read(buffer)
    landed.wait(20)
    complete.point.wait(20)
    hold = device.native.hold("download")
    pending = pool.read(buffer)
    pool.close()
    pool.close()
    assert pool.closed
    for handle in (landed, complete):
        assert (handle.wait(0) == data).all(), "a completed handle keeps what it has"
    with pytest.raises(Cancelled):
        pending.wait(0)
    for use in (lambda: pool.read(buffer), lambda: pool.stream(buffer)):
        with pytest.raises(Closed):
            use()
    assert device.budget.metrics().host_visible_bytes > 0  # in flight
    hold.release()
    device.wait_idle(20)
    assert device.budget.metrics().host_visible_bytes == 0
    assert pool.stats().total_operations == 3


def test_idle_blocks_are_given_back_before_a_refusal(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device(budget="64 KiB")
    buffer = device.create_buffer(8192)
    pool = device.readback_pool(max_pending_ops=4, buffer_size="16 KiB")
    assert device.budget.metrics().host_visible_bytes == 64 * 1024
    lease = pool.read(buffer).lease(20)
    ring = device.staging_ring(ring_count=1, buffer_size="32 KiB")
    assert pool.stats().blocks == 2
    assert device.budget.metrics().refusals == 0
    lease.release()
    ring.close()
    assert pool.read(buffer).wait(20).nbytes == 8192


def test_no_budget_no_pool(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device(budget=0)
    with pytest.raises(BudgetExceeded):
        device.readback_pool()
    pool = device.readback_pool(pre_allocate=False)
    buffer = device.create_buffer(4)
    for _ in range(3):
        with pytest.raises(BudgetExceeded):
            pool.read(buffer)
    assert pool.stats().pending_operations == 0
    assert pool.read(buffer, nbytes=0).wait().size == 0


def test_gathering_keeps_the_loop_running(device: AssembledDevice, buffer: DeviceBuffer, data: Any) -> None:
    async def main() -> None:
        beats = 0
        over = asyncio.Event()

        async def heart() -> None:
            nonlocal beats
            while not over.is_set():
                beats += 1
                await asyncio.sleep(0)

        beating = asyncio.ensure_future(heart())
        async with device.readback_pool(max_pending_ops=2) as pool:
            hold = device.native.hold("download")
            reading = [asyncio.ensure_future(pool.read_async(buffer, offset=i)) for i in range(4)]
            while beats < 50:
                await asyncio.sleep(0)
            hold.release()
            handles = await asyncio.wait_for(asyncio.gather(*reading), 20)
            arrays = await asyncio.wait_for(asyncio.gather(*handles), 20)
            for i, array in enumerate(arrays):
                assert (array == data[i:]).all()
                assert await handles[i] is array
        over.set()
        await beating

    asyncio.run(main())


def test_a_large_read_is_copied_beside_the_loop(device: AssembledDevice) -> None:
    buffer = device.create_buffer("1 MiB")
    poke(buffer, np.full(1 << 20, 9, np.uint8))

    async def main() -> Any:
        async with device.readback_pool() as pool:
            first, second = await asyncio.gather(pool.read(buffer), pool.read(buffer))
            return first, second

    for array in asyncio.run(main()):
        assert (array == 9).all()


def test_a_cancelled_await_leaves_the_read(
    device: AssembledDevice, pool: Pool, buffer: DeviceBuffer, data: Any
) -> None:
    async def main() -> Any:
        with device.native.hold("download"):
            handle = pool.read(buffer)
            task = asyncio.ensure_future(_take(handle))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return await handle

    assert (asyncio.run(main()) == data).all()


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
    device.wait_idle(20)
    assert stream.push()
    device.wait_idle(20)
    assert stream.latest() is not None
    stats = pool.stats()
    assert (stats.dropped_frames, stats.cancelled_operations, stats.pending_operations) == (3, 2, 0) or (
        stats.dropped_frames,
        stats.cancelled_operations,
    ) == (3, 3)


def test_a_stream_reports_what_it_cannot_read(pool: Pool, buffer: DeviceBuffer) -> None:
    with pytest.raises(OutOfRange):
        pool.stream(buffer, offset=SIZE + 1).push()


def test_many_threads_read_their_own_bytes(
    device: AssembledDevice, buffer: DeviceBuffer, data: Any, background: Callable[..., Any], patience: float
) -> None:
    pool = device.readback_pool(max_pending_ops=3)
    barrier = threading.Barrier(6)

    def read(seed: int) -> None:
        draw = np.random.default_rng(seed)
        barrier.wait(patience)
        held: list[tuple[int, Any]] = []
        for _ in range(40):
            start = int(draw.integers(0, SIZE - 64))
            handle = pool.read(buffer, offset=start, nbytes=64)
            match int(draw.integers(0, 4)):
                case 0:
                    handle.cancel()
                case 1:
                    with handle.lease(patience) as lent:
                        assert (lent == data[start : start + 64]).all()
                        del lent
                case 2:
                    held.append((start, handle))
                case _:
                    assert (handle.wait(patience) == data[start : start + 64]).all()
        for start, handle in held:
            assert (handle.wait(patience) == data[start : start + 64]).all()

    for reading in [background(read, seed) for seed in range(6)]:
        reading.result(patience)
    device.wait_idle(patience)
    stats = pool.stats()
    assert stats.pending_operations == 0
    assert stats.total_operations == 240 == stats.completed_operations + stats.cancelled_operations
    assert stats.blocks == stats.block_allocations == 3


# -- against a model --


class PoolModel(RuleBasedStateMachine):
    """A pool of three blocks that raises when busy, on a lane that opens when the model says so."""

    DEPTH, SIZE = 3, 1 << 13

    def __init__(self) -> None:
        super().__init__()
        self.machine = HostMachine()
        self.device = assemble(HostDriver(self.machine))
        self.pool = self.device.readback_pool(
            max_pending_ops=self.DEPTH, backpressure="raise", buffer_size=512
        )
        self.buffer = self.device.create_buffer(self.SIZE)
        self.content = np.random.default_rng(0).integers(0, 256, self.SIZE, dtype=np.uint8)
        poke(self.buffer, self.content)
        self.hold = self.machine.hold("download")
        self.flying: list[Any] = []  # (handle, expected), the device is not done
        self.ready: list[Any] = []  # complete, block held, oldest first
        self.cancelled = 0  # flying, given up
        self.landed: list[Any] = []
        self.leased: list[Any] = []
        self.total = self.completed = self.given_up = self.waits = self.nbytes = 0

    def teardown(self) -> None:
        for lease, _ in self.leased:
            lease.release()
        self.hold.release()
        self.device.close()

    def holding(self) -> int:
        return len(self.flying) + len(self.ready) + self.cancelled + len(self.leased)

    def land(self, which: int) -> None:
        handle, expected = self.ready.pop(which)
        self.landed.append((handle, expected))
        self.completed += 1
        self.nbytes += len(expected)

    @rule(offset=st.integers(0, 4000), nbytes=st.integers(1, 4000))
    def read(self, offset: int, nbytes: int) -> None:
        expected = self.content[offset : offset + nbytes].copy()
        full = self.holding() == self.DEPTH
        if full and self.ready:
            self.land(0)  # the oldest complete read makes room
        elif full:
            self.waits += 1
            with pytest.raises(Busy):
                self.pool.read(self.buffer, offset=offset, nbytes=nbytes)
            return
        self.flying.append((self.pool.read(self.buffer, offset=offset, nbytes=nbytes), expected))
        self.total += 1

    @precondition(lambda self: self.flying or self.cancelled)
    @rule()
    def complete(self) -> None:
        self.hold.release()
        self.device.wait_idle(20)
        self.hold = self.machine.hold("download")
        self.ready += self.flying
        self.flying, self.cancelled = [], 0

    @rule(value=st.integers(0, 255))
    def overwrite(self, value: int) -> None:
        if self.flying or self.cancelled:
            return  # it would wait for the reads
        self.device.submit(self.device.command_list().fill(self.buffer, value, nbytes=100)).wait(20)
        self.content[:100] = value

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 9), drop=st.booleans())
    def give_up(self, which: int, drop: bool) -> None:
        handle, _ = self.flying.pop(which % len(self.flying))
        if not drop:
            handle.cancel()
            with pytest.raises(Cancelled):
                handle.wait(0)
        del handle
        gc.collect(0)
        self.cancelled += 1
        self.given_up += 1

    @precondition(lambda self: self.ready)
    @rule(which=st.integers(0, 9))
    def take(self, which: int) -> None:
        which %= len(self.ready)
        handle, _ = self.ready[which]
        self.land(which)
        assert handle.try_get() is handle.wait(0)

    @precondition(lambda self: self.ready)
    @rule(which=st.integers(0, 9))
    def lease(self, which: int) -> None:
        handle, expected = self.ready.pop(which % len(self.ready))
        self.leased.append((handle.lease(0), expected))
        self.completed += 1
        self.nbytes += len(expected)

    @precondition(lambda self: self.leased)
    @rule(which=st.integers(0, 9))
    def release(self, which: int) -> None:
        self.leased.pop(which % len(self.leased))[0].release()

    @invariant()
    def every_byte_is_right(self) -> None:
        for handle, _ in self.flying:
            assert handle.try_get() is None
        for handle, expected in self.landed:
            assert (handle.wait(0) == expected).all()
        for lease, expected in self.leased:
            assert (lease.array == expected).all()
        assert all(handle.is_complete for handle, _ in (*self.ready, *self.landed))

    @invariant()
    def stats_are_the_models(self) -> None:
        stats = self.pool.stats()
        assert stats.pending_operations == self.holding() <= self.DEPTH
        assert (stats.total_operations, stats.completed_operations) == (self.total, self.completed)
        assert (stats.cancelled_operations, stats.waits) == (self.given_up, self.waits)
        assert stats.bytes_read == self.nbytes
        assert stats.blocks <= self.DEPTH
        assert self.device.budget.metrics().host_visible_bytes == stats.block_bytes


TestPoolModel = PoolModel.TestCase
TestPoolModel.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
