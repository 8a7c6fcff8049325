"""Reads that stop the loop, or that only one task may await."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import numpy as np

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import FenceTimeout, StateError


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
