"""The ring's forms for coroutines, under asyncio and under trio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Closed, FenceTimeout, OutOfRange
from forge3d_core.ring.ring import Ring
from forge3d_core.transfer.copying import INLINE_BYTES

trio: Any = pytest.importorskip("trio")

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
BIG = 3 * INLINE_BYTES + 5


def run_asyncio(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


@pytest.fixture(params=[run_asyncio, trio.run], ids=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param  # type: ignore[no-any-return]


def numbered(nbytes: int) -> Any:
    return np.arange(nbytes, dtype=np.uint32).astype(np.uint8)


@pytest.mark.parametrize("nbytes", [0, 1, 1000, 5000, BIG, 9_000_001])
def test_an_upload_of_any_size_arrives(device: AssembledDevice, run: Run, nbytes: int) -> None:
    target, data = device.create_buffer(nbytes or 1), numbered(nbytes)

    async def main() -> Any:
        async with device.staging_ring(ring_count=3, buffer_size=100_000) as ring:
            sent = data.copy()
            point = await ring.upload_async(sent, target)
            sent[:] = 255  # it is the caller's again
            await point
            assert ring.stats().bytes_staged == nbytes
        assert ring.closed
        return device.readback_pool().read(target, nbytes=nbytes).wait()

    assert (run(main) == data).all()


def test_no_large_copy_runs_on_the_loop(
    device: AssembledDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forge3d_core.transfer.source import Run as Part

    copied: list[tuple[int, bool]] = []
    fill = Part.fill

    def noted(part: Part, memory: Any) -> None:
        copied.append((part.room, threading.current_thread() is threading.main_thread()))
        fill(part, memory)

    monkeypatch.setattr(Part, "fill", noted)
    target = device.create_buffer(9_000_000)

    async def main() -> None:
        async with device.staging_ring(ring_count=3, buffer_size=1_000_000) as ring:
            for nbytes in (INLINE_BYTES, INLINE_BYTES + 1, 500_000, 3_000_000, 9_000_000):
                await (await ring.upload_async(np.ones(nbytes, np.uint8), target))

    run(main)
    assert copied
    assert not [nbytes for nbytes, on_loop in copied if on_loop and nbytes > INLINE_BYTES]


def test_a_task_waits_for_room_while_others_run(device: AssembledDevice, run: Run) -> None:
    target = device.create_buffer(1024)

    async def main() -> None:
        with device.staging_ring(ring_count=1, buffer_size=1024) as ring:
            slot = await ring.reserve_async(1024)
            slot.view[:] = 7
            with pytest.raises(FenceTimeout, match="no room"):
                await ring.reserve_async(1, timeout=0)
            with device.driver.hold("upload"):
                slot.commit(target)
                point = await ring.advance_async()
                with pytest.raises(FenceTimeout, match="no room"):
                    await ring.reserve_async(1, timeout=0.01)
                assert not ring.waiting.line
            await point
            (await ring.reserve_async(1)).release()

    run(main)


def test_advance_waits_for_the_slice_of_another_task(device: AssembledDevice) -> None:
    target = device.create_buffer(64)

    async def main() -> list[str]:
        order: list[str] = []
        with device.staging_ring() as ring:
            slot = await ring.reserve_async(64)

            async def advance() -> None:
                point = await ring.advance_async()
                order.append("advanced")
                await point

            task = asyncio.ensure_future(advance())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            order.append("committed")
            slot.view[:] = 3
            slot.commit(target)
            await task
            assert not ring.waiting.asleep
        return order

    assert asyncio.run(main()) == ["committed", "advanced"]


def test_many_tasks_take_turns_and_no_thread_more(device: AssembledDevice) -> None:
    targets = [device.create_buffer(700) for _ in range(300)]

    async def main() -> int:
        async with device.staging_ring(ring_count=2, buffer_size=1024) as ring:
            before = threading.active_count()
            await asyncio.gather(
                *(ring.upload_async(np.full(700, n % 251, np.uint8), t) for n, t in enumerate(targets))
            )
            await (await ring.advance_async())
            return threading.active_count() - before

    assert asyncio.run(main()) <= 2  # the lane's, and its watcher
    pool = device.readback_pool()
    for number, target in enumerate(targets):
        assert (pool.read(target).wait() == number % 251).all()


def test_refusals_reach_the_awaiter_and_lose_nothing(
    ring: Ring, wrong_targets: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        for target, offset, error in wrong_targets:
            with pytest.raises(error):
                await ring.upload_async(np.zeros(64, np.uint8), target, offset)
        before = ring.stats()
        assert before.bytes_staged == before.submissions == 0

    run(main)


def test_an_exception_in_a_copy_reaches_the_awaiter(
    device: AssembledDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forge3d_core.transfer.source import Run as Part

    def fail(_part: Part, _memory: Any) -> None:
        raise ArithmeticError("broken")

    target = device.create_buffer(BIG)

    async def main() -> None:
        async with device.staging_ring(ring_count=2, buffer_size=BIG) as ring:
            with monkeypatch.context() as patch:
                patch.setattr(Part, "fill", fail)
                for _ in range(5):
                    with pytest.raises(ArithmeticError, match="broken"):
                        await ring.upload_async(np.zeros(BIG, np.uint8), target)
            await (await ring.upload_async(np.full(BIG, 9, np.uint8), target))
            assert not any(block.outstanding for block in ring.state.blocks)

    run(main)
    assert (device.readback_pool().read(target).wait() == 9).all()


def test_a_cancelled_copy_keeps_its_slice_until_the_worker_has_left(
    device: AssembledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forge3d_core.transfer.source import Run as Part

    inside, leave, fill = threading.Event(), threading.Event(), Part.fill

    def slow(part: Part, memory: Any) -> None:
        inside.set()
        leave.wait(10)
        fill(part, memory)

    target = device.create_buffer(BIG)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with device.staging_ring(ring_count=1, buffer_size=BIG) as ring:
            with monkeypatch.context() as patch:
                patch.setattr(Part, "fill", slow)
                task = asyncio.ensure_future(ring.upload_async(np.zeros(BIG, np.uint8), target))
                await loop.run_in_executor(None, inside.wait, 10)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert ring.state.blocks[0].outstanding  # the worker writes to it
                assert ring.allocate(BIG) is None
                leave.set()
                (await ring.reserve_async(BIG)).release()
            assert ring.stats().bytes_staged == 0

    asyncio.run(main())


def test_a_closed_ring_wakes_those_that_wait(device: AssembledDevice) -> None:
    async def main() -> None:
        ring = device.staging_ring(ring_count=1, buffer_size=64)
        slot = await ring.reserve_async(64)
        waits = [asyncio.ensure_future(ring.reserve_async(64)) for _ in range(5)]
        advance = asyncio.ensure_future(ring.advance_async())
        await asyncio.sleep(0)
        ring.close()
        await advance  # closing has released the slice that it waited for
        for error in await asyncio.gather(*waits, return_exceptions=True):
            assert isinstance(error, Closed)
        del slot

    asyncio.run(main())


def test_a_ring_refuses_by_its_rules(ring: Ring, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(OutOfRange):
            await ring.upload_async(np.zeros(1, np.uint8), ring._host.create_buffer(1), 1)  # type: ignore[attr-defined]

    run(main)


def test_a_device_closes_beside_the_loop(
    open_device: Callable[..., AssembledDevice], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    where: list[threading.Thread] = []
    close = AssembledDevice.close

    def noted(device: AssembledDevice) -> None:
        where.append(threading.current_thread())
        close(device)

    async def main() -> None:
        async with open_device() as device, device.staging_ring() as ring:
            await ring.upload_async(np.zeros(10, np.uint8), device.create_buffer(10))
        assert device.closed

    with monkeypatch.context() as patch:
        patch.setattr(AssembledDevice, "close", noted)
        run(main)
    assert where[0] is not threading.main_thread()


def test_a_cancelled_task_has_closed_its_device(open_device: Callable[..., AssembledDevice]) -> None:
    seen: list[AssembledDevice] = []

    async def under_trio() -> None:
        with trio.CancelScope() as scope:
            async with open_device() as device:
                seen.append(device)
                scope.cancel()
                await trio.lowlevel.checkpoint()

    async def under_asyncio() -> None:
        async with open_device() as device:
            seen.append(device)
            raise asyncio.CancelledError

    trio.run(under_trio)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(under_asyncio())
    assert [device.closed for device in seen] == [True, True]


def test_a_loop_that_stops_for_good_leaves_the_line(device: AssembledDevice) -> None:
    ring = device.staging_ring(ring_count=1, buffer_size=64)
    slot, loop = ring.allocate(64), asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, _context: None)
    task = loop.create_task(ring.reserve_async(64))
    loop.run_until_complete(asyncio.sleep(0))
    assert len(ring.waiting.line) == 1
    del task
    loop.close()
    assert slot is not None
    slot.release()
    assert not ring.waiting.line
    ring.reserve(64, 0).release()


def test_a_coroutine_that_is_closed_closes_its_ring_and_waits_for_nothing(
    device: AssembledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    where: list[threading.Thread] = []
    leave, closed, close = threading.Event(), threading.Event(), Ring.close

    def slow(ring: Ring) -> None:
        where.append(threading.current_thread())
        leave.wait(10)  # so that the close is under way when the coroutine has ended
        close(ring)
        closed.set()

    async def main() -> None:
        async with device.staging_ring():
            await asyncio.sleep(10)

    async def dropping() -> None:
        coroutine = main()
        coroutine.send(None)
        coroutine.close()

    with monkeypatch.context() as patch:
        patch.setattr(Ring, "close", slow)
        asyncio.run(dropping())
        leave.set()
        assert closed.wait(10)
    assert where[0] is not threading.main_thread()
