"""Reads that stop the loop, or that only one task may await."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import numpy as np

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import FenceTimeout, ForgeError, StateError


@mutant("readback.await-blocks", breaks="readback.async", because="must not wait")
class AwaitBlocks(Layer):
    """An await waits on the loop's own thread."""

    class Handle(Layer.Handle):
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            with suppress(FenceTimeout):
                self.target.wait(3)
            return self.target.wait(1)


@mutant("readback.await-is-early", breaks="readback.async", because="while the device held")
class AwaitIsEarly(Layer):
    """An await yields once and returns what is there."""

    class Handle(Layer.Handle):
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return np.zeros(1, np.uint8)


@mutant("readback.await-copies", breaks="readback.async", because="another array|different arrays")
class AwaitCopies(Layer):
    """Each await gives an array of its own."""

    class Handle(Layer.Handle):
        def __await__(self) -> Any:
            return (yield from self.target.__await__()).copy()


@mutant("readback.await-once", breaks="readback.async", because="awaited already")
class AwaitOnce(Layer):
    """A read can be awaited by one task only."""

    class Handle(Layer.Handle):
        awaited = False

        def __await__(self) -> Any:
            if self.awaited:
                raise StateError("this read is awaited already")
            self.awaited = True
            return (yield from self.target.__await__())


@mutant("readback.block-is-awaited-on-the-loop", breaks="readback.async", because="must not wait")
class BlockIsAwaitedOnTheLoop(Layer):
    """read_async is read: a wait for a free block stops the loop."""

    class Pool(Layer.Pool):
        async def read_async(self, source: Any, **region: Any) -> Any:
            return self.real.read(source, **region)


@mutant("readback.task-cancels-read", breaks="readback.async", because="Cancelled: .*cancelled")
class TaskCancelsRead(Layer):
    """A task that gives up waiting cancels the read itself."""

    class Handle(Layer.Handle):
        def __await__(self) -> Any:
            try:
                return (yield from self.target.__await__())
            except asyncio.CancelledError:
                self.target.cancel()
                raise


@mutant(
    "readback.block-is-awaited-in-a-thread", breaks="readback.async", because="default executor|must not wait"
)
class BlockIsAwaitedInAThread(Layer):
    """read_async waits for a block in a thread of the loop's own executor."""

    class Pool(Layer.Pool):
        async def read_async(self, source: Any, **region: Any) -> Any:
            return await asyncio.to_thread(self.real.read, source, **region)


@mutant("readback.cancelled-keeps-its-place", breaks="readback.async", because="did not come")
class CancelledKeepsItsPlace(Layer):
    """A task that is cancelled while it waits for a block gets one all the same, for good."""

    class Pool(Layer.Pool):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.kept: list[Any] = []
            self.late = 0

        async def read_async(self, source: Any, **region: Any) -> Any:
            try:
                return await self.real.read_async(source, **region)
            except asyncio.CancelledError:
                if not self.late:
                    self.late += 1
                    threading.Thread(target=self.keep, args=(source,), daemon=True).start()
                raise

        def keep(self, source: Any) -> None:
            with suppress(ForgeError):
                self.kept.append(self.real.read(source))
