"""Slow backends: each does more than it has to, at the place that one clause measures."""

from __future__ import annotations

import time
import weakref
from typing import Any

import numpy as np

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer

TIMES = 24
"""How often what is to be slow is done: by more than what a good backend is faster than its targets."""

PAUSE = 2e-3
GROWTH = 1e-7
"""Seconds for each thing that went before or is alive."""

MISSED = "wanted at"


def pause(seconds: float) -> None:
    """Keep the calling thread busy: a sleep as short as this would last for longer."""
    ending = time.perf_counter() + seconds
    while time.perf_counter() < ending:
        pass


class CopyingSlices(Layer):
    """A slice's bytes are copied before they go up. No defect yet."""

    copies = TIMES

    class Slice(Layer.Slice):
        def commit(self, target: Any, offset: int = 0) -> None:
            spare = np.empty(self.target.nbytes, np.uint8)
            for _ in range(self.layer.copies):  # type: ignore[attr-defined]
                spare[:] = self.target.view
            self.target.commit(target.target, offset)


class RepeatedReads(Layer):
    """A read is done many times over before it is done. No defect yet."""

    class Pool(Layer.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            for _ in range(TIMES - 1):
                self.real.read(source, **region).wait()
            return self.real.read(source, **region)


class RepeatedUploads(Layer):
    """An upload is done many times over before it is done. No defect yet."""

    class Ring(Layer.Ring):
        def upload(self, data: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            for _ in range(TIMES - 1):
                self.real.upload(data, target, *args, **kwargs).wait()
            return self.real.upload(data, target, *args, **kwargs)


class CopyingLeases(Layer):
    """What a lease shows has been copied before. No defect yet."""

    class Handle(Layer.Handle):
        def lease(self, timeout: float | None = None) -> Any:
            lease = self.real.lease(timeout)
            spare = np.empty_like(lease.array)
            for _ in range(TIMES):
                spare[...] = lease.array
            return lease


@mutant("perf.upload-owned/many-times", breaks="perf.upload-owned", because=MISSED)
class UploadOwnedManyTimes(RepeatedUploads):
    """An upload of pageable memory goes up many times."""


@mutant("perf.demo/many-times", breaks="perf.demo", because=MISSED)
class DemoManyTimes(RepeatedUploads):
    """Each band of the terrain goes up many times."""


@mutant("perf.upload-small/many-times", breaks="perf.upload-small", because=MISSED)
class UploadSmallManyTimes(RepeatedUploads):
    """A small upload goes up many times."""


@mutant("perf.readback-owned/many-times", breaks="perf.readback-owned", because=MISSED)
class ReadbackOwnedManyTimes(RepeatedReads):
    """An owned read comes home many times."""


@mutant("perf.readback-small/many-times", breaks="perf.readback-small", because=MISSED)
class ReadbackSmallManyTimes(RepeatedReads):
    """A small read comes home many times."""


@mutant("perf.texture-rows/many-times", breaks="perf.texture-rows", because=MISSED)
class TextureRowsManyTimes(RepeatedReads):
    """A texture comes home many times."""


@mutant("perf.upload-pinned/copied", breaks="perf.upload-pinned", because=MISSED)
class UploadPinnedCopied(CopyingSlices):
    """What lies in host-visible memory is copied before it goes up."""


@mutant("perf.ring-api-cost/copied", breaks="perf.ring-api-cost", because=MISSED)
class RingApiCostCopied(CopyingSlices):
    """Committing a slice costs what its size does."""


@mutant("perf.readback-lease/copied", breaks="perf.readback-lease", because=MISSED)
class ReadbackLeaseCopied(CopyingLeases):
    """A lease is no view: the bytes are copied."""


@mutant("perf.duplex/in-turn", breaks="perf.duplex", because=MISSED)
class DuplexInTurn(CopyingLeases):
    """A read begins when all else is done, and is copied."""

    class Pool(Layer.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            for device in self.layer.lasting("Device"):
                device.target.wait_idle()
            return self.real.read(source, **region)


@mutant("perf.tax/copied", breaks="perf.tax", because=MISSED)
class TaxCopied(CopyingSlices):
    """Each frame is copied before it goes up."""


@mutant("perf.overlap/in-turn", breaks="perf.overlap", because=MISSED)
class OverlapInTurn(Layer):
    """A kernel is submitted when all else is done, and waited for."""

    class Device(Layer.Device):
        def submit(self, commands: Any, **options: Any) -> Any:
            self.target.wait_idle()
            point = self.real.submit(commands, **options)
            self.target.wait_idle()
            return point


@mutant("pipeline.overlap/in-turn", breaks="pipeline.overlap", because=MISSED)
class SystemsInTurn(Layer):
    """A kernel is submitted when all else is done, and a read is waited for."""

    class Device(Layer.Device):
        def submit(self, commands: Any, **options: Any) -> Any:
            self.target.wait_idle()
            point = self.real.submit(commands, **options)
            self.target.wait_idle()
            return point

    class Pool(Layer.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            handle = self.real.read(source, **region)
            handle.point.wait()
            return handle


@mutant("perf.submit-cost/hesitant", breaks="perf.submit-cost", because=MISSED)
class SubmitCostHesitant(Layer):
    """Submitting pauses."""

    class Device(Layer.Device):
        def submit(self, commands: Any, **options: Any) -> Any:
            time.sleep(PAUSE)
            return self.real.submit(commands, **options)


@mutant("perf.fence-cost/hesitant", breaks="perf.fence-cost", because=MISSED)
class FenceCostHesitant(Layer):
    """Asking a point pauses."""

    class Point(Layer.Point):
        @property
        def done(self) -> bool:
            time.sleep(PAUSE)
            return bool(self.target.done)


@mutant("perf.batch-cost/hesitant", breaks="perf.batch-cost", because=MISSED)
class BatchCostHesitant(Layer):
    """Each slice pauses as it is committed, whatever goes with it."""

    class Slice(Layer.Slice):
        def commit(self, target: Any, offset: int = 0) -> None:
            time.sleep(PAUSE)
            self.target.commit(target.target, offset)


@mutant("perf.growth/among-all", breaks="perf.growth", because=MISSED)
class GrowthAmongAll(Layer):
    """A read takes the longer, the more handles live."""

    class Pool(Layer.Pool):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.handles: weakref.WeakSet[Any] = weakref.WeakSet()

        def read(self, source: Any, **region: Any) -> Any:
            pause(len(self.handles) * GROWTH)
            handle = self.real.read(source, **region)
            self.handles.add(handle)
            return handle


@mutant("perf.growth/with-age", breaks="perf.growth", because=MISSED)
class GrowthWithAge(Layer):
    """Submitting takes the longer, the more went before."""

    class Device(Layer.Device):
        submitted = 0

        def submit(self, commands: Any, **options: Any) -> Any:
            self.submitted += 1
            pause(self.submitted * GROWTH)
            return self.real.submit(commands, **options)


@mutant("perf.memory/one-block-more", breaks="perf.memory", because="a ring of .* holds")
class MemoryOneBlockMore(Layer):
    """A ring has a block more than it was asked for."""

    class Device(Layer.Device):
        def staging_ring(self, *, ring_count: int = 3, **options: Any) -> Any:
            return self.real.staging_ring(ring_count=ring_count + 1, **options)


@mutant("perf.memory/kept", breaks="perf.memory", because="in the steady state left")
class MemoryKept(Layer):
    """The results of reads are kept."""

    class Pool(Layer.Pool):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.results: list[Any] = []

        def read(self, source: Any, **region: Any) -> Any:
            handle = self.real.read(source, **region)
            self.results.append(handle.target.wait())
            return handle
