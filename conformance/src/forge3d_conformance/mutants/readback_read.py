"""Reads that wait, take the wrong moment's bytes, or claim to be there."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.mutants.landing import WHILE, Altered, Noted
from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer, unwrap
from forge3d_core.errors import FenceTimeout


@mutant("readback.read-waits", breaks="readback.nonblocking", because="must not wait")
class ReadWaits(Layer):
    """A read returns when it has landed."""

    class Pool(Layer.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            handle = self.real.read(source, **region)
            with suppress(FenceTimeout):
                handle.target.wait(WHILE)
            return handle


@mutant("readback.one-read-in-many-waits", breaks="readback.nonblocking", because="must not wait")
class OneReadInManyWaits(Noted):
    """A read waits for the device once in a dozen times."""

    class Pool(Noted.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            handle = super().read(source, **region)
            if handle.index % 12 == 11:
                with suppress(FenceTimeout):
                    handle.target.wait(WHILE)
            return handle


@mutant("readback.read-drains", breaks="readback.nonblocking", because="must not wait")
class ReadDrains(Noted):
    """A read waits on the host for the work before it, rather than have the device wait."""

    class Pool(Noted.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            with suppress(FenceTimeout):
                self.device.target.wait_idle(WHILE)
            return self.real.read(source, **region)


@mutant("readback.growth-waits", breaks="readback.nonblocking", because="must not wait")
class GrowthWaits(Layer):
    """A read that needs a larger block waits until the pool is empty."""

    class Pool(Layer.Pool):
        last: Any = None

        def read(self, source: Any, **region: Any) -> Any:
            if source.nbytes > self.target.config.buffer_size and self.last is not None:
                with suppress(FenceTimeout):
                    self.last.wait(WHILE)
            handle = self.real.read(source, **region)
            self.last = handle.target.point
            return handle


@mutant("readback.look-waits", breaks="readback.nonblocking", because="must not wait")
class LookWaits(Layer):
    """is_complete finds out by waiting."""

    class Handle(Layer.Handle):
        @property
        def is_complete(self) -> bool:
            with suppress(FenceTimeout):
                self.target.point.wait(WHILE)
            return bool(self.target.is_complete)


@mutant("readback.try-waits", breaks="readback.nonblocking", because="must not wait")
class TryWaits(Layer):
    """try_get maps the block and waits for that."""

    class Handle(Layer.Handle):
        def try_get(self) -> Any:
            with suppress(FenceTimeout):
                self.target.point.wait(WHILE)
            return self.target.try_get()


@mutant("readback.copies-late", breaks="readback.snapshot", because="values differ")
class CopiesLate(Altered):
    """The copy is submitted when somebody asks for the bytes."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        if handle.source.closed:
            return array
        late: NDArray[Any] = handle.pool.target.read(unwrap(handle.source), **handle.region).wait()
        return late


@mutant("readback.copies-early", breaks="readback.snapshot", because="values differ|increments shows")
class CopiesEarly(Altered):
    """A read does not wait for the last write on another lane."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Any = None
        self.newest: Any = None
        self.shadow: Any = None

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        early: NDArray[Any] = array if handle.before is None else handle.before.wait(5)
        return early.view(array.dtype)

    class Device(Altered.Device):
        def create_buffer(self, *args: Any, **kwargs: Any) -> Any:
            buffer = self.real.create_buffer(*args, **kwargs)
            layer: Any = self.layer
            layer.newest = buffer
            return buffer

        def submit(self, commands: Any, **where: Any) -> Any:
            layer: Any = self.layer
            if layer.shadow is None:
                layer.shadow = self.target.readback_pool(max_pending_ops=32, buffer_size=4096)
            if layer.newest is not None and not layer.newest.closed:
                layer.before = layer.shadow.read(layer.newest.target)
            return self.real.submit(commands, **where)

    class Pool(Altered.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            layer: Any = self.layer
            handle = super().read(source, **region)
            handle.before = layer.before if source is layer.newest else None
            return handle


@mutant("readback.source-is-gone", breaks="readback.snapshot", because="whose source was closed")
class SourceIsGone(Altered):
    """A buffer closed while it is being read gives its memory to the next."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        return np.zeros_like(array) if handle.source.closed else array


@mutant("readback.complete-at-submit", breaks="readback.not-early", because="says complete")
class CompleteAtSubmit(Layer):
    """A read is complete once it has been submitted."""

    class Handle(Layer.Handle):
        @property
        def is_complete(self) -> bool:
            return True


@mutant("readback.try-takes-what-is-there", breaks="readback.not-early", because="gave bytes")
class TryTakesWhatIsThere(Layer):
    """try_get returns the block as it is, landed or not."""

    class Handle(Layer.Handle):
        def try_get(self) -> Any:
            array = self.target.try_get()
            return np.zeros(1000, np.uint8) if array is None else array


@mutant("readback.wait-gives-up-silently", breaks="readback.not-early", because="nothing was raised")
class WaitGivesUpSilently(Layer):
    """A wait that timed out returns the block as it is."""

    class Handle(Layer.Handle):
        def wait(self, timeout: float | None = None) -> Any:
            try:
                return self.target.wait(timeout)
            except FenceTimeout:
                return np.zeros(1000, np.uint8)


@mutant("readback.wait-ends-late", breaks="readback.not-early", because="must not wait")
class WaitEndsLate(Layer):
    """A wait whose time is up says so when it next looks, seconds later."""

    class Handle(Layer.Handle):
        def wait(self, timeout: float | None = None) -> Any:
            try:
                return self.target.wait(timeout)
            except FenceTimeout:
                threading.Event().wait(WHILE)
                raise


@mutant("readback.lease-is-early", breaks="readback.not-early", because="lease.* nothing was raised")
class LeaseIsEarly(Layer):
    """A lease shows the block without waiting for the copy."""

    class Handle(Layer.Handle):
        def lease(self, timeout: float | None = None) -> Any:
            return self.real.lease(timeout) if self.target.is_complete else None


@mutant(
    "readback.complete-when-waited-for",
    breaks="readback.not-early",
    because="does not say complete|is_complete of a read .* did not come",
)
class CompleteWhenWaitedFor(Layer):
    """is_complete turns true only by a wait."""

    class Handle(Layer.Handle):
        waited = False

        def wait(self, timeout: float | None = None) -> Any:
            array = self.target.wait(timeout)
            self.waited = True
            return array

        @property
        def is_complete(self) -> bool:
            return self.waited


@mutant(
    "readback.after-is-ignored",
    breaks="readback.not-early",
    because="after a held point",
    requires=("concurrent_lanes",),
)
class AfterIsIgnored(Layer):
    """A read does not wait for the points that it names."""

    class Pool(Layer.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            region.pop("after", None)
            return self.real.read(source, **region)
