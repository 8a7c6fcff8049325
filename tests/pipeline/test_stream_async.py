"""Streams in coroutines: the loop goes on, frames may come later, and a cancelled stream is over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import UsageError
from forge3d_core.pipeline import stream
from forge3d_core.protocols import Buffer, CommandList, Kernel
from forge3d_core.transfer.moving import MOVER

trio: Any = pytest.importorskip("trio")

WORDS = 64


def frames(count: int) -> Iterator[NDArray[np.uint32]]:
    return (np.full(WORDS, number, np.uint32) for number in range(count))


async def drain(results: AsyncIterator[Any]) -> None:
    async for _ in results:
        pass


BOTH = pytest.mark.parametrize("loop", ["asyncio", "trio"])


def run(loop: str, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(main()) if loop == "asyncio" else trio.run(main)


@BOTH
def test_a_coroutine_takes_results_while_its_loop_goes_on(
    device: AssembledDevice, double: Kernel, loop: str
) -> None:
    async def later() -> AsyncIterator[NDArray[np.uint32]]:
        for frame in frames(20):
            await (asyncio.sleep(0) if loop == "asyncio" else trio.lowlevel.checkpoint())
            yield frame

    async def main() -> list[int]:
        seen = []
        for source in (frames(20), later()):
            async with stream(device, source, double) as results:
                seen += [int(result[0]) async for result in results]
        return seen

    assert run(loop, main) == 2 * [2 * number for number in range(20)]
    assert device.budget.metrics().device_local_bytes == 0


@BOTH
def test_large_frames_are_not_copied_on_the_loop(device: AssembledDevice, loop: str) -> None:
    data = np.arange(1 << 18, dtype=np.uint32)

    def copy(commands: CommandList, source: Buffer, target: Buffer, _index: int) -> None:
        commands.copy(source, target)

    async def main() -> bool:
        here, copied = threading.get_ident(), set()
        copyto = MOVER.copy

        def noted(target: Any, source: Any, *args: Any, **kwargs: Any) -> None:
            if target.nbytes > 64 << 10:
                copied.add(threading.get_ident())
            copyto(target, source, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MOVER, "copy", noted)
            async for result in stream(device, (data for _ in range(5)), copy):
                assert (result == data).all()
        return here in copied

    assert not run(loop, main)


@BOTH
def test_a_cancelled_stream_is_over_and_gives_its_memory_back(
    device: AssembledDevice, double: Kernel, loop: str
) -> None:
    async def main() -> None:
        results = stream(device, frames(50), double)
        assert int((await anext(results))[0]) == 0
        with device.driver.hold("compute"):
            if loop == "asyncio":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await drain(results)
            else:
                with trio.move_on_after(0.05) as scope:
                    await drain(results)
                assert scope.cancelled_caught
        assert [result async for result in results] == []

    run(loop, main)
    device.wait_idle()
    assert device.budget.metrics().device_local_bytes == 0


def test_frames_that_only_come_later_want_async_for(device: AssembledDevice, double: Kernel) -> None:
    async def later() -> AsyncIterator[NDArray[np.uint32]]:
        yield np.zeros(WORDS, np.uint32)

    with pytest.raises(UsageError, match="async for"):
        next(stream(device, later(), double))
