"""Pools that hold too much, wait wrongly, allocate on, or show what was there before."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from typing import Any

import attrs

from forge3d_conformance.mutants.landing import WHILE, Noted, peer
from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import BudgetError, Busy, FenceTimeout
from forge3d_core.protocols import AsyncReadbackConfig


class Misconfigured(Noted):
    """Pools are made with another configuration than was asked for; :meth:`change` says which."""

    def change(self, config: AsyncReadbackConfig) -> AsyncReadbackConfig:
        return config

    class Device(Noted.Device):
        def readback_pool(self, config: Any = None, *, lane: str = "download", **changes: Any) -> Any:
            layer: Any = self.layer
            wanted = attrs.evolve(config or AsyncReadbackConfig(), **changes)
            pool = super().readback_pool(layer.change(wanted), lane=lane)
            pool.config = wanted
            return pool


@mutant("readback.one-too-many", breaks="readback.backpressure", because="nothing was raised")
class OneTooMany(Misconfigured):
    """The limit is compared with <= where it should be <."""

    def change(self, config: AsyncReadbackConfig) -> AsyncReadbackConfig:
        return attrs.evolve(config, max_pending_ops=config.max_pending_ops + 1)


@mutant("readback.raise-waits", breaks="readback.backpressure", because="FenceTimeout.*instead of Busy")
class RaiseWaits(Misconfigured):
    """The policy *raise* waits a while all the same."""

    def change(self, config: AsyncReadbackConfig) -> AsyncReadbackConfig:
        return (
            attrs.evolve(config, backpressure="wait", timeout=0.1)
            if config.backpressure == "raise"
            else config
        )


@mutant("readback.wait-raises", breaks="readback.backpressure", because="Busy.*instead of FenceTimeout")
class WaitRaises(Misconfigured):
    """The policy *wait* raises at once."""

    def change(self, config: AsyncReadbackConfig) -> AsyncReadbackConfig:
        return attrs.evolve(config, backpressure="raise") if config.backpressure == "wait" else config


@mutant("readback.waits-too-short", breaks="readback.backpressure", because="gave up after")
class WaitsTooShort(Misconfigured):
    """The policy *wait* takes its timeout for milliseconds."""

    def change(self, config: AsyncReadbackConfig) -> AsyncReadbackConfig:
        return attrs.evolve(config, timeout=config.timeout / 1000 if config.timeout else config.timeout)


@mutant("readback.waits-too-long", breaks="readback.backpressure", because="must not wait")
class WaitsTooLong(Layer):
    """The policy *wait* looks at its clock only every few seconds."""

    class Pool(Layer.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            try:
                return self.real.read(source, **region)
            except FenceTimeout:
                threading.Event().wait(WHILE)
                raise


@mutant(
    "readback.degrades-to-another-block", breaks="readback.backpressure", because="before it was complete"
)
class DegradesToAnotherBlock(Misconfigured):
    """The policy *degrade* takes one more block and returns at once."""

    def change(self, config: AsyncReadbackConfig) -> AsyncReadbackConfig:
        return attrs.evolve(config, backpressure="raise") if config.backpressure == "degrade" else config

    class Pool(Misconfigured.Pool):
        overflow: Any = None

        def read(self, source: Any, **region: Any) -> Any:
            try:
                return super().read(source, **region)
            except Busy:
                if self.config.backpressure != "degrade":
                    raise
                self.overflow = self.overflow or peer(self)
                return self.layer.wrap("Handle", self.overflow.read(source.target, **region))


@mutant(
    "readback.refusal-costs-a-block", breaks="readback.backpressure", because="a read after a refused one"
)
class RefusalCostsABlock(Layer):
    """A refused read does not give back the block it was promised."""

    class Pool(Layer.Pool):
        owed = 0

        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.kept: list[Any] = []

        def read(self, source: Any, **region: Any) -> Any:
            if not self.target.stats().pending_operations:
                for _ in range(min(self.owed, self.target.config.max_pending_ops)):
                    self.kept.append(self.target.read(source.target).lease(5))
            try:
                return self.real.read(source, **region)
            except Busy:
                self.owed += 1
                raise


@mutant("readback.untaken-is-pending", breaks="readback.backpressure", because="before the first is taken")
class UntakenIsPending(Noted):
    """A read keeps its block until somebody takes the bytes, however long ago they came."""

    class Pool(Noted.Pool):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.untaken: weakref.WeakSet[Any] = weakref.WeakSet()

        def read(self, source: Any, **region: Any) -> Any:
            if len(self.untaken) >= self.target.config.max_pending_ops:
                raise FenceTimeout("no block came free; take a read first")
            handle = super().read(source, **region)
            self.untaken.add(handle)
            return handle

    class Handle(Noted.Handle):
        def wait(self, timeout: float | None = None) -> Any:
            array = self.target.wait(timeout)
            self.pool.untaken.discard(self)
            return array


@mutant("readback.pool-grows", breaks="readback.pooled", because="host_visible_bytes went")
class PoolGrows(Noted):
    """A block is lost with every read."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[Any] = []

    class Pool(Noted.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            layer: Any = self.layer
            layer.lost.append(peer(self, max_pending_ops=1, buffer_size=64))
            return super().read(source, **region)


@mutant("readback.replaces-blocks", breaks="readback.pooled", because="block_allocations went")
class ReplacesBlocks(Noted):
    """Each read frees its block and the next allocates another."""

    class Pool(Noted.Pool):
        def stats(self) -> Any:
            stats = self.target.stats()
            return attrs.evolve(stats, block_allocations=stats.block_allocations + self.started)


@mutant(
    "readback.bounces",
    breaks="readback.pooled",
    because="asked the driver for memory",
    requires=("host_pressure",),
)
class Bounces(Noted):
    """Each read goes through a bounce buffer that nobody counts and that is freed at once."""

    class Pool(Noted.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            peer(self, max_pending_ops=1, buffer_size=64).close()
            return super().read(source, **region)


@mutant("readback.single-buffered", breaks="readback.double-buffered", because="in flight at once")
class SingleBuffered(Misconfigured):
    """There is one block, whatever the configuration says."""

    def change(self, config: AsyncReadbackConfig) -> AsyncReadbackConfig:
        return attrs.evolve(config, double_buffered=False)


@mutant("readback.always-double-buffered", breaks="readback.double-buffered", because="one block|blocks")
class AlwaysDoubleBuffered(Misconfigured):
    """There are several blocks, whatever the configuration says."""

    def change(self, config: AsyncReadbackConfig) -> AsyncReadbackConfig:
        return attrs.evolve(config, double_buffered=True)


@mutant("readback.second-waits-for-first", breaks="readback.double-buffered", because="must not wait")
class SecondWaitsForFirst(Layer):
    """A read is started when the one before it has landed: two blocks and no overlap."""

    class Pool(Layer.Pool):
        last: Any = None

        def read(self, source: Any, **region: Any) -> Any:
            if self.last is not None:
                with suppress(FenceTimeout):
                    self.last.wait(3.0)
            handle = self.real.read(source, **region)
            self.last = handle.target.point
            return handle


class Miscounted(Noted):
    """The budget is told something else about pools: :meth:`account` has the bytes of those open."""

    def __init__(self) -> None:
        super().__init__()
        self.pools: list[Any] = []

    def account(self, metrics: Any, block_bytes: int) -> Any:
        return metrics

    class Device(Noted.Device):
        def readback_pool(self, *args: Any, **kwargs: Any) -> Any:
            layer: Any = self.layer
            pool = super().readback_pool(*args, **kwargs)
            layer.pools.append(pool.target)
            return pool

    class Budget(Noted.Budget):
        def metrics(self) -> Any:
            layer: Any = self.layer
            held = sum(pool.stats().block_bytes for pool in layer.pools if not pool.closed)
            return layer.account(self.target.metrics(), held)


@mutant("readback.blocks-are-free", breaks="readback.budgeted", because="are charged .* of host-visible")
class BlocksAreFree(Miscounted):
    """Blocks are not charged to the budget."""

    def account(self, metrics: Any, block_bytes: int) -> Any:
        return attrs.evolve(metrics, host_visible_bytes=metrics.host_visible_bytes - block_bytes)


@mutant("readback.blocks-are-device-local", breaks="readback.budgeted", because="device-local bytes")
class BlocksAreDeviceLocal(Miscounted):
    """Blocks are charged to both heaps."""

    def account(self, metrics: Any, block_bytes: int) -> Any:
        return attrs.evolve(metrics, device_local_bytes=metrics.device_local_bytes + block_bytes)


@mutant("readback.closed-stays-charged", breaks="readback.budgeted", because="a closed pool's memory")
class ClosedStaysCharged(Noted):
    """A closed pool gives its blocks back and stays charged for one."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    class Pool(Noted.Pool):
        def close(self) -> None:
            layer: Any = self.layer
            self.target.close()
            layer.kept.append(self.device.target.budget.reserve(4096))


@mutant("readback.refusal-leaks", breaks="readback.budgeted", because="a refused pool left")
class RefusalLeaks(Layer):
    """A pool that does not fit keeps the blocks that did."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    class Device(Layer.Device):
        def readback_pool(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.readback_pool(*args, **kwargs)
            except BudgetError:
                layer: Any = self.layer
                layer.kept.append(self.target.budget.reserve(4096))
                raise


@mutant("readback.refused-read-is-counted", breaks="readback.budgeted", because="refused reads made")
class RefusedReadIsCounted(Layer):
    """A read that finds no memory counts as started."""

    class Pool(Layer.Pool):
        refused = 0

        def read(self, source: Any, **region: Any) -> Any:
            try:
                return self.real.read(source, **region)
            except BudgetError:
                self.refused += 1
                raise

        def stats(self) -> Any:
            stats = self.target.stats()
            return attrs.evolve(stats, total_operations=stats.total_operations + self.refused)


@mutant("readback.returned-in-flight", breaks="readback.budgeted", because="while the device still wrote it")
class ReturnedInFlight(Miscounted):
    """close gives the blocks back at once, whatever the device is doing with them."""

    def account(self, metrics: Any, block_bytes: int) -> Any:
        if self.pools and all(pool.closed for pool in self.pools):
            return attrs.evolve(metrics, host_visible_bytes=0)
        return metrics
