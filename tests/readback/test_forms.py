"""What a pool has for threads it has for coroutines, under asyncio and under trio; and wrong use of it."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Busy, Cancelled, Closed, StateError
from forge3d_core.readback.pool import Pool

trio: Any = pytest.importorskip("trio")

LARGE = 300_000
"""More than a loop copies on its own thread."""

Run = Callable[[Callable[[], Any]], Any]


def under_asyncio(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


@pytest.fixture(params=[under_asyncio, trio.run], ids=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param  # type: ignore[no-any-return]


async def together(*calls: Callable[[], Any]) -> list[Any]:
    """Await calls beside each other, under either library, and return what came of each."""
    results: list[Any] = [None] * len(calls)

    async def one(index: int) -> None:
        results[index] = await calls[index]()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        async with trio.open_nursery() as nursery:
            for index in range(len(calls)):
                nursery.start_soon(one, index)
    else:
        await asyncio.gather(*map(one, range(len(calls))))
    return results


async def sleep(seconds: float) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


def filled(device: AssembledDevice, value: int, nbytes: int = LARGE) -> Any:
    buffer = device.create_buffer(nbytes)
    device.submit(device.command_list().fill(buffer, value)).wait()
    return buffer


@pytest.mark.parametrize("nbytes", [1000, LARGE])
def test_reads_that_are_gathered(device: AssembledDevice, run: Run, nbytes: int) -> None:
    buffers = [filled(device, value, nbytes) for value in range(5)]
    pool = device.readback_pool(max_pending_ops=2, buffer_size=nbytes)

    async def take(buffer: Any) -> Any:
        return await (await pool.read_async(buffer))

    async def many() -> Any:
        handles = await pool.read_many_async([*buffers[:2], (buffers[2], {"offset": 5})])
        return [await handle for handle in handles]

    async def main() -> None:
        *arrays, batch, again = await together(*(partial(take, buffer) for buffer in buffers), many, many)
        for value, array in enumerate(arrays):
            assert array.nbytes == nbytes
            assert (array == value).all()
        for seen in (batch, again):
            assert [(each[0], each.nbytes) for each in seen] == [(0, nbytes), (1, nbytes), (2, nbytes - 5)]

    run(main)
    assert pool.stats().pending_operations == 0


def test_into_an_array_of_the_callers(device: AssembledDevice, run: Run) -> None:
    buffer = filled(device, 6)

    async def main() -> None:
        async with device.readback_pool() as pool:
            into, part = np.zeros(LARGE, np.uint8), np.zeros(4, "u4")
            assert await (await pool.read_async(buffer, out=into)) is into
            (handle,) = await pool.read_many_async([(buffer, {"nbytes": 16, "out": part})])
            assert await handle is part
            assert (into == 6).all()
            assert (part == 0x06060606).all()

    run(main)


def test_a_lease_after_the_point(device: AssembledDevice, run: Run) -> None:
    buffer = filled(device, 3)

    async def main() -> None:
        async with device.readback_pool(max_pending_ops=1, timeout=10) as pool:

            async def user() -> int:
                handle = await pool.read_async(buffer)
                await handle.point
                with handle.lease(0) as shown:
                    await sleep(0)  # the others wait in line meanwhile
                    return int(shown[-1])

            assert await together(*[user] * 12) == [3] * 12

    run(main)


def test_the_latest_frame_and_how_many_were_dropped(
    device: AssembledDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forge3d_core.readback import handle as module

    land, threads = module.land, []

    def noted(*what: Any) -> Any:
        threads.append(threading.current_thread())
        return land(*what)

    monkeypatch.setattr(module, "land", noted)
    buffer = filled(device, 0)

    async def main() -> None:
        async with device.readback_pool(max_pending_ops=2, buffer_size=LARGE) as pool:
            frames = pool.stream(buffer)
            assert await frames.latest_async() is None
            with device.driver.hold("download"):
                pushed = [frames.push() for _ in range(5)]
                assert await frames.latest_async() is None
            assert pushed == [True, True, False, False, False]
            await device.lanes["download"].timeline.point(2)
            seen = await frames.latest_async()
            assert (seen.nbytes, frames.dropped_frames) == (LARGE, 4)  # three refused, one passed over
            assert await frames.latest_async() is None
            frames.close()
            assert await frames.latest_async() is None
            assert pool.stats().dropped_frames == 4

    run(main)
    assert threads
    assert threading.main_thread() not in threads


def test_a_latest_that_is_cancelled_leaves_the_frame(device: AssembledDevice) -> None:
    buffer = filled(device, 9)

    async def main() -> None:
        async with device.readback_pool(buffer_size=LARGE) as pool:
            frames = pool.stream(buffer)
            assert frames.push()
            await device.lanes["download"].timeline.point(1)
            task = asyncio.ensure_future(frames.latest_async())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            seen = await frames.latest_async()
            assert seen is not None
            assert (seen == 9).all()

    asyncio.run(main())


@pytest.mark.parametrize("policy", ["wait", "raise", "degrade"])
def test_each_policy(device: AssembledDevice, run: Run, policy: Any) -> None:
    buffer = filled(device, 4, 64)
    pool = device.readback_pool(max_pending_ops=1, backpressure=policy, buffer_size=64)

    async def main() -> None:
        hold = device.driver.hold("download")
        kept = await pool.read_async(buffer)

        async def second() -> Any:
            if policy == "raise":
                with pytest.raises(Busy, match="max_pending_ops"):
                    await pool.read_async(buffer)
                return [4]
            return await (await pool.read_async(buffer))

        async def release() -> None:
            await sleep(0.01)
            assert pool.stats().waits == 1
            hold.release()

        array, _ = await together(second, release)
        assert array[0] == 4
        assert (await kept)[0] == 4

    run(main)
    assert pool.stats().pending_operations == 0


CALLS: dict[str, Callable[[AssembledDevice, Pool], Any]] = {
    "read_async": lambda device, pool: pool.read_async(device.create_buffer(64)),
    "read_many_async": lambda device, pool: pool.read_many_async([device.create_buffer(64)]),
    "upload_async": lambda device, _: device.staging_ring().upload_async(
        np.zeros(64, "u1"), device.create_buffer(64)
    ),
    "reserve_async": lambda device, _: device.staging_ring().reserve_async(64),
    "advance_async": lambda device, _: device.staging_ring().advance_async(),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_is_not_awaited_has_done_nothing_and_python_says_so(
    device: AssembledDevice, run: Run, call: str
) -> None:
    pool = device.readback_pool(max_pending_ops=1, buffer_size=64)

    async def main() -> None:
        coroutine = CALLS[call](device, pool)
        with pytest.raises(AttributeError, match="coroutine"):
            coroutine.wait()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del coroutine
            gc.collect()
        assert [f"{call}' was never awaited" in str(one.message) for one in caught].count(True) == 1

    run(main)
    assert pool.stats().total_operations == 0
    assert pool.read(device.create_buffer(64)).wait().nbytes == 64


@pytest.mark.parametrize("call", ["read_async", "upload_async", "advance_async"])
def test_a_coroutine_is_awaited_once_and_its_result_as_often_as_one_likes(
    device: AssembledDevice, run: Run, call: str
) -> None:
    async def main() -> None:
        async with device.readback_pool() as pool:
            coroutine = CALLS[call](device, pool)
            result = await coroutine
            with pytest.raises(RuntimeError, match="already awaited"):
                await coroutine
            first = await result
            assert await result is first

    run(main)


def test_what_runs_under_no_loop_is_told_so_and_loses_nothing(device: AssembledDevice) -> None:
    pool = device.readback_pool(max_pending_ops=1, buffer_size=64)
    buffer = filled(device, 2, 64)
    ring = device.staging_ring(ring_count=1, buffer_size=64)
    with device.driver.hold("download"):
        handle, slot = pool.read(buffer), ring.reserve(64)
        for coroutine in (handle.point.__await__(), pool.read_async(buffer), ring.reserve_async(64)):
            with pytest.raises(StateError, match=r"neither under asyncio nor under trio.*without async"):
                coroutine.send(None)
    slot.release()
    assert (handle.wait() == 2).all()
    assert (pool.read(buffer).wait() == 2).all()
    ring.reserve(64, 0).release()
    assert not pool.blocks.line.places
    assert not ring.waiting.line


def test_loops_in_turn_and_beside_each_other(device: AssembledDevice) -> None:
    pool = device.readback_pool(buffer_size=LARGE)
    buffer = filled(device, 8)

    async def give_up(handle: Any) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.take_async(), 0.01)

    async def take(handle: Any) -> Any:
        return await handle

    with device.driver.hold("download"):
        handle = pool.read(buffer)
        asyncio.run(give_up(handle))
        asyncio.run(give_up(handle))  # the first loop is closed, and hears nothing any more
        taken: list[Any] = []
        threads = [
            threading.Thread(target=lambda: taken.append(asyncio.run(take(handle)))),
            threading.Thread(target=lambda: taken.append(trio.run(take, handle))),
        ]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(10)
    assert len(taken) == 2
    assert taken[0] is taken[1] is trio.run(take, handle)


def test_a_guest_of_the_loop_and_its_host(device: AssembledDevice) -> None:
    """Trio runs inside asyncio's loop, and tasks of both await on one thread."""
    pool = device.readback_pool(max_pending_ops=1, buffer_size=LARGE, timeout=10)
    buffer = filled(device, 5)
    counts = {"guest": 0, "host": 0}

    async def reads(who: str) -> None:
        for _ in range(20):
            array = await (await pool.read_async(buffer))
            counts[who] += int(array[0] == 5)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        trio.lowlevel.start_guest_run(
            reads,
            "guest",
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=ended.set_result,
        )
        await reads("host")
        (await ended).unwrap()

    asyncio.run(main())
    assert counts == {"guest": 20, "host": 20}


def test_a_read_that_is_cancelled_while_it_is_awaited(device: AssembledDevice, run: Run) -> None:
    pool = device.readback_pool(max_pending_ops=1, buffer_size=64, timeout=10)
    buffer = filled(device, 1, 64)

    async def main() -> None:
        with device.driver.hold("download"):
            handle = await pool.read_async(buffer)

            async def wait() -> None:
                with pytest.raises(Cancelled, match="cancelled"):
                    await handle

            async def cancel() -> None:
                await sleep(0.01)
                handle.cancel()

            await together(wait, wait, cancel)
        with pytest.raises(Cancelled):
            await handle
        assert (await (await pool.read_async(buffer)))[0] == 1

    run(main)


def test_a_pool_that_is_closed_meanwhile(device: AssembledDevice, run: Run) -> None:
    buffer = filled(device, 1, 64)

    async def main() -> None:
        pool = device.readback_pool(max_pending_ops=1, buffer_size=64, timeout=None)
        with device.driver.hold("download"):
            handle = await pool.read_async(buffer)

            async def in_line() -> None:
                with pytest.raises(Closed, match="readback pool was closed"):
                    await pool.read_async(buffer)

            async def flying() -> None:
                with pytest.raises(Cancelled):
                    await handle

            async def close() -> None:
                await sleep(0.01)
                pool.close()

            await together(in_line, in_line, flying, close)
        for late in (pool.read_async(buffer), pool.read_many_async([buffer])):
            with pytest.raises(Closed):
                await late

    run(main)
