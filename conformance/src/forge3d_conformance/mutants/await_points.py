"""Coroutines that keep something when they end early, or do not end."""

from __future__ import annotations

import asyncio
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer, unwrap


@mutant(
    "readback.async-keeps-budget", breaks="readback.await-points", because="kept of the budget|did not come"
)
class AsyncKeepsBudget(Layer):
    """A read that ends while it waits for a block keeps bytes of the budget."""

    class Pool(Layer.Pool):
        async def read_async(self, *what: Any, **more: Any) -> Any:
            try:
                return await self.real.read_async(*what, **more)
            except BaseException:
                self.layer.kept = [*getattr(self.layer, "kept", ()), self._charged()]  # type: ignore[attr-defined]
                raise

        def _charged(self) -> Any:
            (device, *_) = self.layer.lasting("Device")
            return device.target.budget.reserve(4096)


@mutant("readback.async-goes-on", breaks="readback.await-points", because="went on|did not come")
class AsyncGoesOn(Layer):
    """A read that waits for a block takes a cancellation for a call to look again."""

    class Pool(Layer.Pool):
        async def read_async(self, *what: Any, **more: Any) -> Any:
            try:
                return await self.real.read_async(*what, **more)
            except asyncio.CancelledError:
                return await self.real.read_async(*what, **more)


@mutant(
    "ring.async-keeps-slice",
    breaks="ring.async",
    because="FenceTimeout|no room|not committed|whole room|did not come",
)
class AsyncKeepsSlice(Layer):
    """An upload that ends early leaves a slice open."""

    class Ring(Layer.Ring):
        async def upload_async(self, *what: Any, **more: Any) -> Any:
            try:
                return await self.real.upload_async(*what, **more)
            except BaseException:
                self.layer.kept = [*getattr(self.layer, "kept", ()), self._slice()]  # type: ignore[attr-defined]
                raise

        def _slice(self) -> Any:
            return self.target.reserve(1, 5)


@mutant(
    "ring.async-blocks",
    breaks="ring.async",
    because="did not wait for the device|ended by itself|no room",
)
class AsyncBlocks(Layer):
    """An upload waits on the loop's own thread."""

    class Ring(Layer.Ring):
        async def upload_async(self, *what: Any, **more: Any) -> Any:
            return self.real.upload(*what, **more)

        async def reserve_async(self, nbytes: int, timeout: Any = None) -> Any:
            return self.real.reserve(nbytes, timeout)


@mutant("ring.async-copies-late", breaks="ring.async", because="values differ|differ|did not come")
class AsyncCopiesLate(Layer):
    """An upload is staged once the loop has turned, after its await has returned."""

    class Ring(Layer.Ring):
        async def upload_async(self, data: Any, target: Any, offset: int = 0, **more: Any) -> Any:
            ring, wanted = self.target, unwrap(target)
            if getattr(data, "nbytes", 0) > wanted.nbytes:
                return await self.real.upload_async(data, target, offset, **more)
            point = await ring.advance_async()
            asyncio.get_running_loop().call_soon(lambda: ring.upload(data, wanted, offset, **more))
            return self.layer.wrap("Point", point)
